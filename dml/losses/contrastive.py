"""The contrastive loss."""

from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_sum


class ContrastiveLoss(PairLoss):
    """Contrastive loss: every positive drawn near, every negative pushed until it is less similar than λ.

        ℓ_i = −Σ_P S_ij + Σ_N [S_ij − λ]₊

    Source: Hadsell, Chopra and LeCun, CVPR 2006, in the form on similarities of Wang et al., CVPR 2019,
    section 3. It weighs every positive and every negative above λ by 1, whatever their similarity.

    Deviations from Hadsell et al.: similarities in place of Euclidean distances; the hinge is not squared, so that a
    negative above λ weighs 1, where theirs weighs the more the nearer it is.

    Args:
        lam: λ, similarity above which a negative costs, in [−1, 1].
    """

    def __init__(self, lam: float = 0.5) -> None:
        super().__init__()
        self.lam = lam

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        attraction_Q = masked_sum(-similarity, pairs.positive)
        return attraction_Q + masked_sum((similarity - self.lam).relu(), pairs.negative)
