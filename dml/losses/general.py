import torch
from jaxtyping import Float
from torch import Tensor

from dml.errors import UserError
from dml.losses.mining import Mining
from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.similarity import euclidean_distance
from dml.losses.weighting import Weighting


class GeneralWeightingLoss(PairLoss):
    """General pair-based weighting loss: mining selects the pairs, weighting gives each its weight.

        ℓ_i = Σ_P w⁺_ij d_ij − Σ_N w⁻_ij d_ij

    over the mined pairs; w is held constant in backward, and d is 1 − S or the Euclidean distance. With
    d = 1 − S, |∂ℓ_i/∂S_ij| = w_ij: `RelativeMining` with `MultiSimilarityWeighting` has the gradient of the
    multi-similarity loss. The value does not measure progress; only the gradient has a meaning.

    Source: Liu et al., arXiv 1905.12837; Wang et al., CVPR 2019, section 3. Deviations: none known.

    Args:
        mining: which pairs count, as in `dml.losses.mining`.
        weighting: how much each counts, as in `dml.losses.weighting`.
        euclidean: true for d = √(2 − 2S), false for d = 1 − S.

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
