"""A picture of what the network finds: test queries and their nearest images."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml.data.datamodule import EmbeddingDataModule, data_of
from dml.data.protocol import EvaluationSet
from dml.models.preprocessing import in_unit_range
from dml.module import EvaluationModule
from dml.retrieval.index import Neighbours, nearest

RIGHT, WRONG, QUERY = "#1a9641", "#d7191c", "#404040"


class RetrievalGrid(pl.Callback):
    """Draws `retrievals.png` after a test: each row a query and its nearest images, green right and red wrong.

    Args:
        path: the picture's file.
        queries: rows; spread evenly over the queries, so over the classes.
        neighbours: nearest images a query.
    """

    def __init__(self, path: str, queries: int = 8, neighbours: int = 5) -> None:
        self.path, self.queries, self.neighbours = Path(path), queries, neighbours

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, EvaluationModule)
        data = data_of(trainer)
        evaluation = data.evaluation_set("test")
        z_ND = pl_module.evaluated.ordered(len(evaluation.samples))  # every process brings its part
        if trainer.is_global_zero:
            rows = np.linspace(0, len(evaluation.query_index) - 1, self.queries).round().astype(int)
            found = search(evaluation, z_ND.cpu(), rows, self.neighbours)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            figure = draw(data, evaluation.query_index[rows], found)
            with warnings.catch_warnings():
                # A letter that the font lacks is drawn as a box.
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                figure.savefig(self.path, dpi=120)


def search(evaluation: EvaluationSet, z_ND: torch.Tensor, rows: np.ndarray, k: int) -> Neighbours:
    """The k nearest images of some queries, as positions in the evaluation set."""
    if evaluation.gallery_index is None:
        gallery_G, self_index = evaluation.query_index, torch.from_numpy(rows)
    else:
        gallery_G, self_index = evaluation.gallery_index, None
    found = nearest(z_ND[evaluation.query_index[rows]], z_ND[gallery_G], k, self_index)
    return found._replace(index_QK=torch.from_numpy(gallery_G)[found.index_QK])


def draw(data: EmbeddingDataModule, query_Q: np.ndarray, found: Neighbours) -> Figure:
    """A row for each query: itself, then what was found."""
    images, labels = data.test_dataloader().dataset, data.evaluation_set("test").labels
    columns = found.index_QK.shape[1] + 1
    figure = Figure(figsize=(1.5 * columns, 1.75 * len(query_Q)), layout="constrained")
    axes = figure.subplots(len(query_Q), columns, squeeze=False)
    for row, query in enumerate(query_Q.tolist()):
        name = str(data.classes[labels[query]])
        show(axes[row, 0], images[query]["image"], name, QUERY)
        matches = zip(found.index_QK[row].tolist(), found.similarity_QK[row].tolist(), strict=True)
        for axis, (index, similarity) in zip(axes[row, 1:], matches, strict=True):
            other = str(data.classes[labels[index]])
            title = f"{similarity:.2f}" if other == name else f"{similarity:.2f}  {other}"
            show(axis, images[index]["image"], title, RIGHT if other == name else WRONG)
    return figure


def show(axis: Axes, image_CHW: torch.Tensor, title: str, colour: str) -> None:
    """One image, framed and titled in a colour."""
    axis.imshow(in_unit_range(image_CHW).permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set(color=colour, linewidth=3)
    axis.set_title(drawable(title)[:28], fontsize=7, color=colour, parse_math=False)


def drawable(name: str) -> str:
    """A name in letters alone: bytes that are none, as file names may hold, become question marks."""
    return os.fsencode(name).decode(errors="replace")
