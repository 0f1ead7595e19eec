"""The number of active triplets of each pair, counted without listing triplets."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import Pairs


@torch.no_grad()
def triplet_counts(
    similarity: Float[Tensor, "Q R"], pairs: Pairs, lam: float, semi_hard: bool = False
) -> Float[Tensor, "Q R"]:
    """For each pair, the number of its anchor's triplets (positive p, negative n) with S_p − λ < S_n.

    For a positive, these are the negatives above its threshold S_p − λ, found by its rank among the sorted negatives.
    For a negative, they are the positives whose rank lies before its own. O(Q·R·log R) time, O(Q·R) memory.

    Args:
        similarity: (Q, R) cosine similarities.
        pairs: the candidates.
        lam: λ, margin in similarity.
        semi_hard: count only triplets with S_n < S_p.
    """
    R = similarity.shape[1]
    sorted_QR, order_QR = torch.where(pairs.negative, similarity, -torch.inf).sort(dim=1)
    # Active negatives of a positive have the ranks first ≤ rank < last.
    first_QR = torch.searchsorted(sorted_QR, similarity - lam, right=True)
    last_QR = torch.searchsorted(sorted_QR, similarity) if semi_hard else torch.full_like(first_QR, R)
    is_positive_QR = (pairs.positive & (first_QR < last_QR)).int()
    # +1 where a positive's ranks begin and −1 where they end; the running sum counts the positives at each rank.
    steps_QR = is_positive_QR.new_zeros(len(similarity), R + 1)
    steps_QR.scatter_add_(1, first_QR, is_positive_QR).scatter_add_(1, last_QR, -is_positive_QR)
    running_QR = steps_QR[:, :R].cumsum(dim=1, dtype=torch.int32)
    of_negative_QR = torch.zeros_like(is_positive_QR).scatter_(1, order_QR, running_QR)
    of_positive_QR = is_positive_QR * (last_QR - first_QR).int()
    return torch.where(pairs.negative, of_negative_QR, of_positive_QR).to(similarity.dtype)
