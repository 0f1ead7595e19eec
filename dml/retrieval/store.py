"""Collects the embeddings of an evaluation set, batch by batch on all processes, and puts them in order."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml.distributed import gather


class EmbeddingStore:
    """Collects (index, embedding) pairs in any order and returns each embedding at its own place."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything collected."""
        self._indices: list[Tensor] = []
        self._embeddings: list[Tensor] = []

    def add(self, index: Int[Tensor, "B"], embedding: Float[Tensor, "B D"]) -> None:
        """Keep a batch: positions in the evaluation set, (B,), and embeddings, (B, D), as float32."""
        self._indices.append(index)
        self._embeddings.append(embedding.float())

    def ordered(self, size: int) -> Float[Tensor, "N D"]:
        """All `size` embeddings, (N, D), row n that of image n, on every process; nothing stays in the store.

        Every process must call, with the part that it evaluated in its store.

        Raises:
            RuntimeError: an image is missing, or an index lies outside the set.
        """
        index, embedding = gather(torch.cat(self._indices)), gather(torch.cat(self._embeddings))
        self.clear()
        return in_order(index, embedding, size)


def in_order(index: Int[Tensor, "M"], embedding: Float[Tensor, "M D"], size: int) -> Float[Tensor, "N D"]:
    """Embeddings by position, copies of one position counted once; M ≥ N = `size`.

    Raises:
        RuntimeError: not every position of 0 … N−1 is there, or one is outside.
    """
    present = torch.unique(index)
    if len(present) != size or present[0] != 0 or present[-1] != size - 1:
        raise RuntimeError(
            f"{len(present)} of {size} images were evaluated; every one must be, exactly once."
        )
    ordered = embedding.new_empty(size, embedding.shape[1])
    ordered[index] = embedding
    return ordered
