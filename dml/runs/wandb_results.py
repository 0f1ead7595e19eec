"""What Weights & Biases gets of a test: the final figures, retrievals as images, histograms of similarities."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms.v2.functional import to_pil_image

from dml.callbacks.retrieval_grid import RetrievalGrid, grids_of
from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.data.datamodule import data_of
from dml.errors import UserError, note, printable
from dml.models.preprocessing import in_unit_range
from dml.reporting.embeddings import sample, similarity_histogram


def log_results(trainer: pl.Trainer, figures: Mapping[str, Any]) -> None:
    """Log the latest test to the trainer's W&B run, if it has one; where that fails, a note says so.

    The figures are those of `metrics.json`. The files of the run are written already. The first process alone calls.
    """
    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    if not loggers:
        return
    import wandb

    evaluation = data_of(trainer).evaluation_set("test")
    for logger in loggers:
        try:
            if not logger.experiment.disabled:
                logger.experiment.summary.update(summary(figures))
                similarities = histograms(evaluation.labels, retrieval_metrics_of(trainer).embeddings.cpu())
                logger.log_metrics({**pictures(trainer), **similarities}, trainer.global_step)
        except (OSError, MemoryError, UserError, wandb.errors.Error) as error:
            reason = str(error).rstrip(".") or "out of memory"
            note(f"W&B did not get all of this test ({reason}); the run's folder has it.")


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures for the run's summary, every one under a flat key, which W&B's tables sort and filter by.

    Intervals are `test/recall_at_1_low` and `_high`, floors `baselines/raw_pixels/recall_at_1`; `collapsed` is there
    in every run.
    """
    flat = {name: value for name, value in figures.items() if isinstance(value, (str, int, float))}
    for column, metrics in figures.get("baselines", {}).items():
        flat |= {_place(f"{column}/{metric}"): value for metric, value in metrics.items()}
    for name, (low, high) in figures.get("intervals", {}).items():
        flat |= {f"{_place(name)}_low": low, f"{_place(name)}_high": high}
    return {"collapsed": False, **flat}


def _place(name: str) -> str:
    return name if name.startswith("test/") else f"baselines/{name.replace(' ', '_')}"


def pictures(trainer: pl.Trainer) -> dict[str, Any]:
    """The picture of retrievals, and its queries as a table; nothing without a `RetrievalGrid`."""
    import wandb

    logged: dict[str, Any] = {}
    for grid in grids_of(trainer):
        columns: list[str | int] = ["query", "name", "class", "first_right_rank"]
        for k in range(1, grid.neighbours + 1):
            columns += [f"image_{k}", f"similarity_{k}", f"class_{k}", f"right_{k}"]
        logged["test/retrievals"] = wandb.Table(columns, [*rows(trainer, grid)])
        if grid.path.is_file():
            logged["test/retrievals_picture"] = wandb.Image(str(grid.path))
    return logged


def rows(trainer: pl.Trainer, grid: RetrievalGrid) -> Iterator[list[Any]]:
    """A row for each query of a picture.

    It holds the query's image, name, class and `first_right_rank`, as in `queries.csv`, then image, similarity and
    class of each of its nearest images, and whether it is right.
    """
    import wandb

    data, ranking = data_of(trainer), retrieval_metrics_of(trainer).ranking
    evaluation, images = data.evaluation_set("test"), data.test_dataloader().dataset

    def image(index: int) -> Any:
        return wandb.Image(to_pil_image(in_unit_range(images[index]["image"])))

    row_numbers, found = grid.found(trainer)
    neighbours = zip(row_numbers.tolist(), found.index_QK.tolist(), found.similarity_QK.tolist(), strict=True)
    for row, indices, similarities in neighbours:
        query = int(evaluation.query_index[row])
        label = evaluation.labels[query]
        rank = int(ranking.others_ahead[row]) + 1 if ranking.positives[row] else None
        cells = [
            image(query),
            printable(evaluation.samples.names[query]),
            printable(str(data.classes[label])),
            rank,
        ]
        for index, similarity in zip(indices, similarities, strict=True):
            other = evaluation.labels[index]
            cells += [image(index), similarity, printable(str(data.classes[other])), bool(other == label)]
        yield cells + [None] * (4 * (grid.neighbours - len(indices)))


def histograms(labels_N: Int[np.ndarray, "N"], z_ND: Float[Tensor, "N D"]) -> dict[str, Any]:
    """Similarities of positive and of negative pairs as shares of each kind, the ones that a report shows.

    Given are the classes, (N,), and embeddings, (N, D) on the CPU, of all test images.
    """
    import wandb

    index_M = sample(labels_N)
    found = similarity_histogram(normalize(z_ND[index_M]), torch.from_numpy(labels_N[index_M]))
    return {
        f"test/{kind}_similarity": wandb.Histogram(
            np_histogram=(np.array(found[kind]), np.array(found["edges"]))
        )
        for kind in ("positive", "negative")
    }
