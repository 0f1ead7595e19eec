"""What a test leaves in the run's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from dml.callbacks.retrieval_grid import draw_retrievals
from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.data.datamodule import data_of
from dml.runs.queries import write_queries
from dml.runs.report import write_metrics


def write_results(trainer: pl.Trainer, folder: Path, figures: Mapping[str, Any]) -> None:
    """Write `metrics.json`, then `queries.csv`, then the pictures of the latest test; the first process alone calls."""
    retrieval, data = retrieval_metrics_of(trainer), data_of(trainer)
    write_metrics(folder, figures)
    write_queries(folder, data.evaluation_set("test"), data.classes, retrieval.ranking, retrieval.queries)
    draw_retrievals(trainer)
