from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import log_sum_exp


class LiftedStructureLoss(PairLoss):
    """Lifted structure loss: a weight is relative to the anchor's other pairs of the same kind.

        ℓ_i = [log Σ_P exp(λ − S_ij) + log Σ_N exp(S_ij)]₊

    Source: Oh Song et al., CVPR 2016, in the per-anchor form of Hermans et al., arXiv 1703.07737,
    section 2, on similarities as in Wang et al., CVPR 2019, section 3. An anchor without positives or
    without negatives gives 0.

    Deviations from Oh Song et al.: an anchor has one term for all its positives, not one for each positive. The
    positive's own negatives are left out. The hinge is not squared. Similarities are used in place of distances.

    Args:
        lam: λ, margin in similarity.
    """

    def __init__(self, lam: float = 1.0) -> None:
        super().__init__()
        self.lam = lam

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        positive_Q = log_sum_exp(self.lam - similarity, pairs.positive)
        return (positive_Q + log_sum_exp(similarity, pairs.negative)).relu()
