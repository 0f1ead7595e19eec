import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.losses.labels import check_classes, check_num_classes
from dml.losses.mining import Mining
from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_sum
from dml.losses.similarity import euclidean_distance


class MarginLoss(PairLoss):
    """Margin loss: a learned boundary β of the anchor's class separates positives from negatives.

        ℓ_i = mean over the active pairs of [α + y_ij (d_ij − β_c(i))]₊ + ν β_c(i)

    y is 1 for a positive and −1 for a negative; d is the Euclidean distance. A pair is active if its term is
    above zero. The parameter `beta` holds β.

    Source: Wu et al., ICCV 2017, Sampling Matters in Deep Embedding Learning, section 4.2.

    Deviations from the authors' code: the mean is over each anchor's pairs, then over anchors. β has no part
    per image. The penalty is a mean over anchors; the code sums it over the drawn pairs and divides by the number of
    active pairs, so the same ν has a different effect here.

    Args:
        alpha: α, margin in Euclidean distance.
        beta: initial β, boundary in Euclidean distance.
        nu: ν ≥ 0, weight of the penalty on β.
        num_classes: C for one β per class, with labels 0 … C − 1; None for a single β.
        mining: which pairs count, `DistanceWeightedMining` in the paper; None for all.

    Raises:
        UserError: C is not positive.
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

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        """As in `PairLoss`.

        Raises:
            UserError: a label is not among 0 … C − 1.
            ValueError: there is one β per class, and `pairs` has no labels.
        """
        if self.mining is not None:
            pairs = self.mining(similarity, pairs)
        if len(self.beta) == 1:
            beta_Q1 = self.beta.expand(len(similarity), 1)
        elif pairs.label is None:
            raise ValueError("One β per class needs the anchors' labels, but pairs.label is None.")
        else:
            check_classes(pairs.label, len(self.beta))
            beta_Q1 = self.beta[pairs.label, None]
        beyond_QR = euclidean_distance(similarity) - beta_Q1
        cost_QR = (self.alpha + torch.where(pairs.positive, beyond_QR, -beyond_QR)).relu()
        pair_QR = pairs.positive | pairs.negative
        active_Q = (pair_QR & (cost_QR > 0)).sum(dim=1)
        penalty_Q = self.nu * beta_Q1.squeeze(1) * pair_QR.any(dim=1)
        return masked_sum(cost_QR, pair_QR) / active_Q.clamp_min(1) + penalty_Q
