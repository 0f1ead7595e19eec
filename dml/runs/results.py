"""The figures of a test, and what it leaves in the run's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from dml.callbacks.retrieval_grid import draw_retrievals
from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.data.datamodule import data_of
from dml.retrieval.metrics import QueryMetrics
from dml.runs.queries import write_queries
from dml.runs.report import write_metrics


def test_figures(trainer: pl.Trainer, floors: Mapping[str, QueryMetrics]) -> dict[str, Any]:
    """What `metrics.json` says of the latest test: `test/…`, `intervals`, `baselines`, and `collapsed` if it is so.

    Args:
        trainer: that tested.
        floors: queries of the baselines by name.
    """
    retrieval, labels = retrieval_metrics_of(trainer), data_of(trainer).evaluation_set("test").query_labels
    queries = {**floors, "test": retrieval.queries}
    intervals = {
        f"{column}/{metric}": ends
        for column, found in queries.items()
        for metric, ends in found.intervals(labels).items()
    }
    test = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("test/")}
    means = {name: floor.means() for name, floor in floors.items()}
    return {**test, **retrieval.collapse(), "intervals": intervals, "baselines": means}


def write_results(trainer: pl.Trainer, folder: Path, figures: Mapping[str, Any]) -> None:
    """Write `metrics.json`, then `queries.csv`, then the pictures of the latest test; the first process alone calls."""
    retrieval, data = retrieval_metrics_of(trainer), data_of(trainer)
    write_metrics(folder, figures)
    write_queries(folder, data.evaluation_set("test"), data.classes, retrieval.ranking, retrieval.queries)
    draw_retrievals(trainer)
