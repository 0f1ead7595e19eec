"""The lifted structure loss."""

from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import log_sum_exp


class LiftedStructureLoss(PairLoss):
    """Lifted structure loss: a pair counts by how it compares with the anchor's other pairs of its kind.

        ℓ_i = [log Σ_P exp(λ − S_ij) + log Σ_N exp(S_ij)]₊

    Source: Oh Song et al., CVPR 2016, in the per-anchor form of Hermans et al., arXiv 1703.07737,
    section 2, on similarities as Wang et al., CVPR 2019, section 3. An anchor without pairs of both kinds
    gives 0.

    Deviations from Oh Song et al.: an anchor has a term for all its positives together, not one for each, and
    the positive's own negatives are left out; the hinge is not squared; similarities in place of distances.

    Args:
        lam: λ, margin in similarity.
    """

    def __init__(self, lam: float = 1.0) -> None:
        super().__init__()
        self.lam = lam

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        positive_Q = log_sum_exp(self.lam - similarity, pairs.positive)
        return (positive_Q + log_sum_exp(similarity, pairs.negative)).relu()
