"""`embeddings.npy` and `embeddings.parquet`: the test embeddings for other programs, such as Embedding Atlas."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml.data.datamodule import EmbeddingDataModule
from dml.errors import printable
from dml.reporting.embeddings import SAMPLE, project, sample
from dml.retrieval.index import nearest
from dml.runs.failures import whole_file

NEIGHBOURS = 10


def write_embeddings(
    folder: Path, data: EmbeddingDataModule, embeddings: Float[Tensor, "N D"], seed: int
) -> None:
    """Write the test embeddings, (N, D) float32, and a table with a row for each: both in the order of the test.

    Columns: `name`, `class`, `role` (query or gallery), `projection_x`, `projection_y` (see `positions`) and
    `neighbors`, the ten most similar other images of the test as `{"ids": rows, "distances": 1 − cosine}`. They fit
    `embedding-atlas embeddings.parquet --x projection_x --y projection_y --neighbors neighbors`. The embeddings given
    are of length 1 and on the CPU; the seed is that of the projection.
    """
    import pyarrow
    from pyarrow import parquet

    evaluation = data.evaluation_set("test")
    found = nearest(embeddings, embeddings, NEIGHBOURS, torch.arange(len(embeddings)))
    pairs = zip(found.index_QK.tolist(), (1 - found.similarity_QK).tolist(), strict=True)
    role_N = np.full(len(embeddings), "gallery", dtype=object)
    role_N[evaluation.query_index] = "query"
    place_N2 = positions(embeddings.numpy(), evaluation.labels, seed)
    table = pyarrow.table(
        {
            "name": [printable(name) for name in evaluation.samples.names],
            "class": [printable(str(data.classes[label])) for label in evaluation.labels],
            "role": role_N.tolist(),
            "projection_x": place_N2[:, 0],
            "projection_y": place_N2[:, 1],
            "neighbors": [{"ids": ids, "distances": distances} for ids, distances in pairs],
        }
    )
    with whole_file(folder / "embeddings.npy") as part, part.open("wb") as stream:
        np.save(stream, embeddings.numpy())
    with whole_file(folder / "embeddings.parquet") as part:
        parquet.write_table(table, part)


def positions(
    z_ND: Float[np.ndarray, "N D"], label_N: Int[np.ndarray, "N"], seed: int, at_most: int = SAMPLE
) -> Float[np.ndarray, "N 2"]:
    """Embeddings in two dimensions, (N, 2): a sample by t-SNE, as in the report, and the others by their neighbours."""
    from sklearn.neighbors import KNeighborsRegressor  # takes a second, and few runs want it

    index_M = sample(label_N, at_most)
    x_M2 = project(z_ND[index_M], seed)
    near = KNeighborsRegressor(min(5, len(index_M)), weights="distance").fit(z_ND[index_M], x_M2)
    x_N2 = near.predict(z_ND)
    x_N2[index_M] = x_M2
    return x_N2
