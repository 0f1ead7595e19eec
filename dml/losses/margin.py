"""The margin loss."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.losses.distance import euclidean_distance
from dml.losses.labels import check_classes, check_num_classes
from dml.losses.mining import Mining
from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_sum


class MarginLoss(PairLoss):
    """Margin loss: a learned boundary β of the anchor's class parts positives from negatives, by a margin.

        ℓ_i = mean over the active pairs of [α + y_ij (d_ij − β_c(i))]₊ + ν β_c(i)

    y is 1 for a positive and −1 for a negative, d the Euclidean distance; a pair is active where its term is
    above zero. The parameter `beta` holds β.
    Source: Wu et al., ICCV 2017, Sampling Matters in Deep Embedding Learning, section 4.2.

    Deviations from the authors' code: the mean is taken anchor by anchor, then over anchors; β has no part of
    an image's own. The penalty is a mean over anchors, where the code sums it over the pairs drawn and divides by the
    active ones, so the same ν weighs otherwise here.

    Args:
        alpha: α, margin in Euclidean distance.
        beta: β, boundary in Euclidean distance to start from.
        nu: ν ≥ 0, weight of the penalty on β, a mean over anchors.
        num_classes: C for a β a class, labels being 0 … C − 1; None for a single β.
        mining: which pairs count, `DistanceWeightedMining` in the paper; None for all.
    """

    def __init__(
        self,
        alpha: float = 0.2,
        beta: float = 1.2,
        nu: float = 0.0,
        num_classes: int | None = None,
        mining: Mining | None = None,
    ) -> None:
        super().__init__()
        if num_classes is not None:
            check_num_classes(num_classes)
        self.alpha, self.nu, self.mining = alpha, nu, mining
        self.beta = nn.Parameter(torch.full((num_classes or 1,), float(beta)))

    def boundary(self, pairs: Pairs) -> Float[Tensor, "Q 1"]:
        """β of each anchor's class.

        Raises:
            UserError: a label is not among 0 … C − 1.
        """
        if len(self.beta) == 1:
            return self.beta.expand(len(pairs.positive), 1)
        if pairs.label is None:
            raise ValueError("A β a class needs the anchors' labels: pairs.label is None.")
        check_classes(pairs.label, len(self.beta))
        return self.beta[pairs.label, None]

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        if self.mining is not None:
            pairs = self.mining(similarity, pairs)
        beta_Q1 = self.boundary(pairs)
        beyond_QR = euclidean_distance(similarity) - beta_Q1
        cost_QR = (self.alpha + torch.where(pairs.positive, beyond_QR, -beyond_QR)).relu()
        pair_QR = pairs.positive | pairs.negative
        active_Q = (pair_QR & (cost_QR > 0)).sum(dim=1)
        penalty_Q = self.nu * beta_Q1.squeeze(1) * pair_QR.any(dim=1)
        return masked_sum(cost_QR, pair_QR) / active_Q.clamp_min(1) + penalty_Q
