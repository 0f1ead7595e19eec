"""The ranked list loss."""

from jaxtyping import Float
from torch import Tensor

from dml.losses.distance import euclidean_distance
from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_mean, masked_softmax


class RankedListLoss(PairLoss):
    """Ranked list loss: positives within a ball around the anchor, negatives outside a larger one.

        ℓ_i = (1 − λ) · mean_P' (d_ij − (α − m)) + λ · Σ_N' w_ij (α − d_ij) / Σ_N' w_ij,    w = exp(T (α − d))

    d is the Euclidean distance, P' the positives with d > α − m, N' the negatives with d < α; w is constant
    in backward. Source: Wang, Hua et al., CVPR 2019, Ranked List Loss, section 3.

    Deviations from the authors' code: its layer applies a query's weights, which sum to 1, to the gradient of the
    query alone and leaves the references where they are; here both move, as the formula says. The gradient of a
    batch is about twice as long, in nearly the same direction (cosine 0.93 to 1.00). The reimplementation of
    pytorch-metric-learning differentiates through w, so that a negative could be drawn near; the paper's gradient is
    its weight.

    Args:
        alpha: α, radius in Euclidean distance outside which negatives belong, in (0, 2).
        m: margin; positives belong inside α − m.
        T: T ≥ 0, temperature; 0 weighs all violating negatives alike.
        lam: λ in [0, 1], share of the negatives.
    """

    def __init__(self, alpha: float = 1.2, m: float = 0.4, T: float = 10.0, lam: float = 0.5) -> None:
        super().__init__()
        if not 0 <= lam <= 1:
            raise ValueError(f"loss.lambda must lie between 0 and 1, not at {lam}.")
        self.alpha, self.m, self.T, self.lam = alpha, m, T, lam

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        d_QR = euclidean_distance(similarity)
        far_QR, near_QR = d_QR - (self.alpha - self.m), self.alpha - d_QR
        positive_Q = masked_mean(far_QR, pairs.positive & (far_QR > 0))
        weight_QR = masked_softmax(self.T * near_QR, pairs.negative & (near_QR > 0))
        negative_Q = (weight_QR * near_QR).sum(dim=1)
        return (1 - self.lam) * positive_Q + self.lam * negative_Q
