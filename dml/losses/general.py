"""The general pair-based weighting loss: any mining with any weighting."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.errors import UserError
from dml.losses.distance import euclidean_distance
from dml.losses.mining import Mining
from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.weighting import Weighting


class GeneralWeightingLoss(PairLoss):
    """General pair-based weighting loss: mining chooses the pairs, weighting says how much each counts.

        ℓ_i = Σ_P w⁺_ij d_ij − Σ_N w⁻_ij d_ij

    over the mined pairs, w being constant in backward and d = 1 − S, or the Euclidean distance. With 1 − S
    the gradient is the weights: `RelativeMining` with `MultiSimilarityWeighting` trains as the
    multi-similarity loss. The value is no measure of progress; the gradient is what is meant.
    Source: Liu et al., arXiv 1905.12837; Wang et al., CVPR 2019, section 3. Deviations: none known.

    Args:
        mining: which pairs count, as in `dml.losses.mining`.
        weighting: how much each counts, as in `dml.losses.weighting`.
        euclidean: d is the Euclidean distance.

    Raises:
        UserError: mining or weighting is None.
    """

    def __init__(self, mining: Mining | None, weighting: Weighting | None, euclidean: bool = False) -> None:
        super().__init__()
        if mining is None or weighting is None:
            raise UserError("loss=general needs both halves: add mining=… and weighting=… (see conf/).")
        self.mining, self.weighting, self.euclidean = mining, weighting, euclidean

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        with torch.no_grad():
            mined = self.mining(similarity, pairs)
            weight_QR = self.weighting(similarity, mined)
        distance_QR = euclidean_distance(similarity) if self.euclidean else 1 - similarity
        return (torch.where(mined.positive, weight_QR, -weight_QR) * distance_QR).sum(dim=1)
