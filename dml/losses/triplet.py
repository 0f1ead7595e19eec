"""Triplet losses: a positive should be more similar to the anchor than a negative, by a margin."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_max, masked_min, masked_sum


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


class TripletLoss(PairLoss):
    """Triplet loss over all triplets of an anchor.

        ℓ_i = mean over the active triplets (p, n) of S_in − S_ip + λ;    active: S_in − S_ip + λ > 0

    Source: Weinberger and Saul, JMLR 2009; the mean over active triplets as in Hermans et al., arXiv 1703.07737
    (batch all ≠ 0); similarities as in Wang et al., CVPR 2019, section 3. With `average="all"` inactive triplets
    count as zeros. A pair's weight is then the number of active triplets it is in, up to a constant, as in the
    comparison of Wang et al., and does not depend on the number of other active triplets.

    The loss is linear in each active triplet, so it is Σ ±c_ij S_ij plus a constant, where c_ij is the number of
    active triplets of the pair. The counts come from sorted rows; no triplet is listed.

    Deviations: the mean is over each anchor's triplets, then over anchors. Similarities are used in place of
    distances; a margin m in squared Euclidean distance is λ = m/2.

    Args:
        lam: λ > 0, margin in similarity.
        average: "active" for the mean over an anchor's active triplets, "all" for that over all its triplets.

    Raises:
        ValueError: λ is not positive, or `average` is neither.
    """

    semi_hard = False

    def __init__(self, lam: float = 0.1, average: str = "active") -> None:
        super().__init__()
        if lam <= 0:
            raise ValueError(f"loss.lambda must be positive, not {lam}.")
        if average not in ("active", "all"):
            raise ValueError(f"loss.average must be active or all, not {average}.")
        self.lam, self.average = lam, average

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        count_QR = triplet_counts(similarity, pairs, self.lam, self.semi_hard)
        active_Q = masked_sum(count_QR, pairs.positive)
        signed_QR = torch.where(pairs.positive, -count_QR, count_QR)
        triplets_Q = (
            pairs.positive.sum(dim=1) * pairs.negative.sum(dim=1) if self.average == "all" else active_Q
        )
        return ((signed_QR * similarity).sum(dim=1) + self.lam * active_Q) / triplets_Q.clamp_min(1)


class SemiHardTripletLoss(TripletLoss):
    """Triplet loss over an anchor's semi-hard triplets, whose negative lies less than λ below the positive.

        ℓ_i = mean over (p, n) with S_ip − λ < S_in < S_ip of S_in − S_ip + λ

    Source: Schroff, Kalenichenko and Philbin, CVPR 2015, section 3.2.

    Deviations: all semi-hard negatives of a positive count; the authors take one. Those of `TripletLoss` apply too, as
    do its arguments and errors.
    """

    semi_hard = True


class BatchHardTripletLoss(PairLoss):
    """Triplet loss of an anchor's hardest pairs: its least similar positive and most similar negative.

        ℓ_i = [max_N S_ij − min_P S_ij + λ]₊

    Source: Hermans, Beyer and Leibe, arXiv 1703.07737, section 2 (batch hard).

    Deviations: similarities in place of Euclidean distances; equal similarities share the gradient.

    Args:
        lam: λ, margin in similarity.
    """

    def __init__(self, lam: float = 0.1) -> None:
        super().__init__()
        self.lam = lam

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        hardest_negative_Q1 = masked_max(similarity, pairs.negative)
        hardest_positive_Q1 = masked_min(similarity, pairs.positive)
        # For an anchor without positives or without negatives the difference is −inf.
        return (hardest_negative_Q1 - hardest_positive_Q1 + self.lam).relu().squeeze(1)
