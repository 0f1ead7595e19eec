"""A FAISS index of embeddings by number: exact, a graph, or compressed."""

import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float, Int
from rich.progress import track

from dml.errors import UserError
from dml.use.index_folder import ANEW, Items, State
from dml.use.parts import Parts

PER_CENTROID = 39  # fewer training vectors than this a centroid, and FAISS warns
CODES = 256  # of a product quantiser of 8 bits; it needs as many vectors to train


class FaissIndex:
    """Nearest embeddings by inner product.

    `flat` compares with all and is exact. `hnsw` walks a graph of 32 neighbours a vector (Malkov and Yashunin 2018).
    `ivfpq` looks into the cells nearest to the query, of about 4 √N, and holds D/4 bytes a vector (Jégou et al. 2011).
    """

    def __init__(self, index: Any, kind: str) -> None:
        self.index, self.kind = index, kind

    @classmethod
    def empty(cls, kind: str, parts: Parts, items: Items) -> "FaissIndex":
        """An index without vectors; a compressed one is trained on some of the rows, of which it needs 256."""
        size, dim = len(items), parts.dim
        cells = max(1, min(round(4 * size**0.5), size // PER_CENTROID))
        recipe = {
            "flat": "IDMap,Flat",
            "hnsw": "IDMap,HNSW32,Flat",
            "ivfpq": f"IVF{cells},PQ{pieces_of(dim)}np",  # np: no training for Hamming distances, which takes minutes
        }[kind]
        index: Any = faiss.index_factory(dim, recipe, faiss.METRIC_INNER_PRODUCT)
        if kind == "hnsw":
            faiss.ParameterSpace().set_index_parameter(index, "efSearch", 128)
        if kind == "ivfpq":
            if size < CODES:
                raise UserError(
                    f"index.type=ivfpq needs {CODES} images to train on, not {size}: take index.type=flat."
                )
            index.nprobe = max(min(cells, 8), cells // 32)
            # FAISS's own 25 rounds on 65,536 vectors take minutes for 512 dimensions, and find hardly better codes.
            training = index.pq.cp
            training.niter, training.min_points_per_centroid, training.max_points_per_centroid = 10, 1, 64
            sample = np.random.default_rng(0).permutation(size)[: max(64 * cells, 16 * CODES)]
            index.train(parts.vectors(np.sort(items.ids[sample])))
        return cls(index, kind)

    @classmethod
    def opened(cls, folder: Path, state: State) -> "FaissIndex":
        """That of an index, which must hold the images that are listed."""
        file = folder / state.file("index.faiss")
        try:
            index: Any = faiss.read_index(str(file))
        except (RuntimeError, MemoryError) as error:
            reason = str(error).rpartition(": ")[2] or "out of memory"
            raise UserError(
                f"{file} cannot be read as a FAISS index ({reason}): index the images anew, in another folder."
            ) from None
        if index.ntotal != state.images:
            raise UserError(f"{file} holds {index.ntotal:,} vectors for {state.images:,} images: {ANEW}.")
        return cls(index, state.type)

    def add(self, parts: Parts, items: Items) -> None:
        """Add rows of the parts."""
        for ids_B, z_BD in track(parts.of(items.ids), "indexing", disable=not sys.stdout.isatty()):
            self.index.add_with_ids(z_BD, ids_B)

    def remove(self, parts: Parts, gone: Items, left: Items) -> None:
        """Remove some rows. FAISS removes nothing from a graph, which is built anew of the rows left."""
        if self.kind == "hnsw":
            self.index = self.empty(self.kind, parts, left).index
            self.add(parts, left)
        else:
            self.index.remove_ids(gone.ids)

    def search(
        self, z_QD: Float[np.ndarray, "Q D"], k: int
    ) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
        """Numbers (Q, k) of the vectors nearest to each query, nearest first, −1 where there is none; similarities."""
        S_QK, ids_QK = self.index.search(z_QD, k)
        return ids_QK, S_QK

    def save(self, file: Path) -> None:
        """Write it to a file."""
        try:
            faiss.write_index(self.index, str(file))
        except RuntimeError as error:
            reason = str(error).rpartition(": ")[2]
            raise UserError(f"{file} cannot be written ({reason}): is the disk full?") from None


def pieces_of(dim: int) -> int:
    """Into how many pieces, all of one length, a product quantiser cuts a vector: at most D/4, or 1."""
    return max(m for m in range(1, max(1, dim // 4) + 1) if dim % m == 0)
