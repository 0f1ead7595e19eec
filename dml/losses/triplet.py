"""Triplet losses: every negative less similar to the anchor than every positive, by a margin."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_max, masked_min, masked_sum
from dml.losses.triplet_counts import triplet_counts


class TripletLoss(PairLoss):
    """Triplet loss over all triplets of an anchor.

        ℓ_i = mean over the active triplets (p, n) of S_in − S_ip + λ;    active: S_in − S_ip + λ > 0

    Source: Weinberger and Saul, JMLR 2009; the mean over active triplets as Hermans et al., arXiv 1703.07737
    (batch all ≠ 0); similarities as Wang et al., CVPR 2019, section 3. With `average="all"` the inactive triplets
    count as zeros: a pair's weight then is the number of active triplets it is in, up to a constant, as in the
    comparison of Wang et al.; how many others are active does not matter to it.

    The loss is linear in each active triplet, so it is Σ c_ij S_ij up to sign and constant, c_ij counting the
    active triplets that the pair is in: sorted rows give the counts and no triplet is ever written out.

    Deviations: the mean is taken anchor by anchor, then over anchors; similarities in place of distances (a
    margin m in squared Euclidean distance is λ = m/2).

    Args:
        lam: λ > 0, margin in similarity.
        average: "active" or "all", over which of an anchor's triplets.
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
    """Triplet loss over the semi-hard triplets of an anchor: the negative is within λ below the positive.

        ℓ_i = mean over (p, n) with S_ip − λ < S_in < S_ip of S_in − S_ip + λ

    Source: Schroff, Kalenichenko and Philbin, CVPR 2015, section 3.2.

    Deviations: all semi-hard negatives of a positive, where the authors take one; further as `TripletLoss`.

    Args:
        lam, average: as in `TripletLoss`.
    """

    semi_hard = True


class BatchHardTripletLoss(PairLoss):
    """Triplet loss of an anchor's least similar positive and most similar negative.

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
        # An anchor without one of the kinds has −inf here.
        return (hardest_negative_Q1 - hardest_positive_Q1 + self.lam).relu().squeeze(1)
