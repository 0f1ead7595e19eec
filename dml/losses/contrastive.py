from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_sum


class ContrastiveLoss(PairLoss):
    """Contrastive loss: pulls every positive closer and pushes away every negative above λ.

        ℓ_i = −Σ_P S_ij + Σ_N [S_ij − λ]₊

    Source: Hadsell, Chopra and LeCun, CVPR 2006, in the form on similarities of Wang et al., CVPR 2019,
    section 3. Every positive and every negative above λ has weight 1.

    Deviations from Hadsell et al.: similarities in place of Euclidean distances. The hinge is not squared, so a
    negative above λ has weight 1; in their loss closer negatives have larger weights.

    Args:
        lam: λ in [−1, 1], similarity above which a negative adds to the loss.
    """

    def __init__(self, lam: float = 0.5) -> None:
        super().__init__()
        self.lam = lam

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        attraction_Q = masked_sum(-similarity, pairs.positive)
        return attraction_Q + masked_sum((similarity - self.lam).relu(), pairs.negative)
