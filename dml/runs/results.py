"""The figures of a test, and what it leaves in the run's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from dml.callbacks.retrieval_grid import draw_retrievals
from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.data.datamodule import data_of
from dml.retrieval.clustering import agreement_intervals
from dml.retrieval.metrics import QueryMetrics
from dml.runs.queries import write_queries
from dml.runs.report import write_metrics
from dml.runs.wandb_results import log_results


def test_figures(trainer: pl.Trainer, floors: Mapping[str, QueryMetrics]) -> dict[str, Any]:
    """What `metrics.json` says of the latest test: `test/…`, `intervals`, `baselines`, and `collapsed` if it is so.

    The baselines are given by their queries. All processes return the same.
    """
    retrieval, evaluation = retrieval_metrics_of(trainer), data_of(trainer).evaluation_set("test")
    queries = {**floors, "test": retrieval.queries}
    columns = {name: found.intervals(evaluation.query_labels) for name, found in queries.items()}
    if retrieval.clusters is not None:
        columns["test"] |= agreement_intervals(evaluation.labels, retrieval.clusters)
    intervals = {f"{name}/{metric}": ends for name, of in columns.items() for metric, ends in of.items()}
    test = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("test/")}
    means = {name: floor.means() for name, floor in floors.items()}
    return {**test, **retrieval.collapse(), "intervals": intervals, "baselines": means}


def write_results(trainer: pl.Trainer, folder: Path, figures: Mapping[str, Any]) -> None:
    """Write `metrics.json`, then `queries.csv`, then the pictures of the latest test; the first process alone calls.

    What W&B gets comes last.
    """
    retrieval, data = retrieval_metrics_of(trainer), data_of(trainer)
    write_metrics(folder, figures)
    write_queries(folder, data.evaluation_set("test"), data.classes, retrieval.ranking, retrieval.queries)
    draw_retrievals(trainer)
    log_results(trainer, figures)
