"""A picture of what the network finds: test queries and their nearest images."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml.data.roles import EvaluationSet
from dml.retrieval.index import nearest

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
        evaluation: EvaluationSet = trainer.datamodule.evaluation_set("test")
        z_ND = pl_module.evaluated.ordered(len(evaluation.samples))  # every process brings its part
        if trainer.is_global_zero:
            self._save(trainer.datamodule, evaluation, z_ND.cpu())

    def _save(self, data: pl.LightningDataModule, evaluation: EvaluationSet, z_ND: torch.Tensor) -> None:
        rows = np.linspace(0, len(evaluation.query_index) - 1, self.queries).round().astype(int)
        query_Q = evaluation.query_index[rows]
        if evaluation.gallery_index is None:
            gallery_G, self_index = evaluation.query_index, torch.from_numpy(rows)
        else:
            gallery_G, self_index = evaluation.gallery_index, None
        found = nearest(z_ND[query_Q], z_ND[gallery_G], self.neighbours, self_index)
        figure = self._draw(
            data, query_Q, gallery_G[found.index_QK.numpy()], found.similarity_QK.numpy(), evaluation
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.path, dpi=120)

    def _draw(
        self,
        data: pl.LightningDataModule,
        query_Q: np.ndarray,
        found_QK: np.ndarray,
        similarity_QK: np.ndarray,
        evaluation: EvaluationSet,
    ) -> Figure:
        images = data.test_dataloader().dataset
        columns = found_QK.shape[1] + 1
        figure = Figure(figsize=(1.5 * columns, 1.75 * len(query_Q)), layout="constrained")
        axes = figure.subplots(len(query_Q), columns, squeeze=False)
        for row, query in enumerate(query_Q):
            label = evaluation.labels[query]
            show(axes[row, 0], images[query]["image"], str(data.classes[label]), QUERY)
            for axis, index, similarity in zip(axes[row, 1:], found_QK[row], similarity_QK[row], strict=True):
                right = evaluation.labels[index] == label
                title = (
                    f"{similarity:.2f}"
                    if right
                    else f"{similarity:.2f}  {data.classes[evaluation.labels[index]]}"
                )
                show(axis, images[index]["image"], title, RIGHT if right else WRONG)
        return figure


def show(axis: Axes, image_CHW: torch.Tensor, title: str, colour: str) -> None:
    """One image, framed and titled in a colour."""
    axis.imshow(image_CHW.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set(color=colour, linewidth=3)
    axis.set_title(title[:28], fontsize=7, color=colour)
