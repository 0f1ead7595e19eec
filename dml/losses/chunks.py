"""Rows of a loss a few at a time, so that no similarity matrix is ever whole in memory."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Rows = Callable[..., Tensor]


def rows_in_chunks(
    rows: Rows,
    chunk: int | None,
    embeddings: Float[Tensor, "Q D"],
    labels: Int[Tensor, "Q"],
    ref_embeddings: Float[Tensor, "R D"],
    ref_labels: Int[Tensor, "R"],
    self_index: Int[Tensor, "Q"] | None,
) -> Float[Tensor, "Q"]:
    """`rows` of all anchors, computed for `chunk` of them at a time and again in backward.

    Memory is that of `chunk` × R similarities instead of Q × R, time that of one more forward. An anchor's
    row depends on no other anchor's, which is why this is exact.

    Args:
        rows: `PairLoss.rows`.
        chunk: anchors at a time; None takes all at once, and recomputes nothing.
        embeddings, labels, ref_embeddings, ref_labels, self_index: as in `PairLoss.rows`.
    """
    if chunk is None or chunk >= len(labels):
        return rows(embeddings, labels, ref_embeddings, ref_labels, self_index)
    own_index = [None] * -(-len(labels) // chunk) if self_index is None else self_index.split(chunk)
    shares = zip(embeddings.split(chunk), labels.split(chunk), own_index, strict=True)
    return torch.cat(
        [
            checkpoint(rows, z_cD, label_c, ref_embeddings, ref_labels, own_c, use_reentrant=False)
            for z_cD, label_c, own_c in shares
        ]
    )
