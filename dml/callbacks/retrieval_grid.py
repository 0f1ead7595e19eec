"""Picture of test queries and their nearest images."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.data.datamodule import data_of
from dml.errors import printable
from dml.models.preprocessing import in_unit_range
from dml.retrieval.index import Neighbours, nearest
from dml.runs.picture import save_picture

RIGHT, WRONG, QUERY = "#1a9641", "#d7191c", "#404040"
Tile = tuple[torch.Tensor, str, str]  # image (C, H, W), title, colour


class RetrievalGrid(pl.Callback):
    """`retrievals.png` of a test: each row a query and its nearest images, green right and red wrong.

    Args:
        path: the picture's file.
        queries: number of rows, at most 20, spread evenly over the queries and so over the classes.
        neighbours: nearest images shown for each query, at most 10.
    """

    def __init__(
        self,
        path: str,
        queries: Annotated[int, Field(ge=1, le=20)] = 8,
        neighbours: Annotated[int, Field(ge=1, le=10)] = 5,
    ) -> None:
        self.path, self.queries, self.neighbours = Path(path), queries, neighbours

    def found(self, trainer: pl.Trainer) -> tuple[np.ndarray, Neighbours]:
        """The rows' numbers among the queries of the latest test, and their nearest images in its evaluation set."""
        evaluation = data_of(trainer).evaluation_set("test")
        z_ND = retrieval_metrics_of(trainer).embeddings.cpu()
        rows = np.linspace(0, len(evaluation.query_index) - 1, self.queries).round().astype(int)
        query_Q, gallery_G = evaluation.query_index[rows], evaluation.searched_index
        self_index = torch.from_numpy(rows) if evaluation.gallery_index is None else None
        found = nearest(z_ND[query_Q], z_ND[gallery_G], self.neighbours, self_index)
        return rows, found._replace(index_QK=torch.from_numpy(gallery_G)[found.index_QK])

    def draw(self, trainer: pl.Trainer) -> Figure:
        """The picture of the latest test: a row for each query, the query first."""
        data, (query_rows, found) = data_of(trainer), self.found(trainer)
        evaluation, images = data.evaluation_set("test"), data.test_dataloader().dataset
        names = [str(data.classes[label]) for label in evaluation.labels]
        rows = list[list[Tile]]()
        columns = evaluation.query_index[query_rows], found.index_QK, found.similarity_QK
        for query, index_K, similarity_K in zip(*(column.tolist() for column in columns), strict=True):
            rows.append([(images[query]["image"], names[query], QUERY)])
            for n, similarity in zip(index_K, similarity_K, strict=True):
                right = names[n] == names[query]
                title = f"{similarity:.2f}" if right else f"{similarity:.2f}  {names[n]}"
                rows[-1].append((images[n]["image"], title, RIGHT if right else WRONG))
        return sheet(rows)


def grids_of(trainer: pl.Trainer) -> list[RetrievalGrid]:
    """The trainer's `RetrievalGrid`, if it has one."""
    return [callback for callback in trainer.callbacks if isinstance(callback, RetrievalGrid)]  # type: ignore[attr-defined]


def draw_retrievals(trainer: pl.Trainer) -> None:
    """Save the trainer's pictures; no hook does, since figures are to be written first."""
    for grid in grids_of(trainer):
        save_picture(grid.path, partial(grid.draw, trainer))


def sheet(rows: Sequence[Sequence[Tile]]) -> Figure:
    """Rows of images, each with its title and the colour of its frame; they may differ in length."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(1.5 * columns, 1.75 * len(rows)), dpi=120, layout="constrained")
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axis in axes[len(row) :]:
            axis.set_axis_off()
        for axis, tile in zip(axes, row, strict=False):
            show(axis, *tile)
    return figure


def show(axis: Axes, image_CHW: torch.Tensor, title: str, colour: str) -> None:
    """One image, framed and titled in a colour."""
    axis.imshow(in_unit_range(image_CHW).permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set(color=colour, linewidth=3)
    axis.set_title(printable(title)[:28], fontsize=7, color=colour, parse_math=False)
