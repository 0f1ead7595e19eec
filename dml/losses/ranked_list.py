from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_mean, masked_softmax
from dml.losses.similarity import euclidean_distance


class RankedListLoss(PairLoss):
    """Ranked list loss: pulls positives into a ball around the anchor, pushes negatives out of a larger one.

        ℓ_i = (1 − λ) · mean_P' (d_ij − (α − m)) + λ · Σ_N' w_ij (α − d_ij) / Σ_N' w_ij,    w = exp(T (α − d))

    d is the Euclidean distance, P' the positives with d > α − m, N' the negatives with d < α. w is held constant
    in backward. Source: Wang, Hua et al., CVPR 2019, Ranked List Loss, section 3.

    Deviations from the authors' code: its layer applies a query's weights, which sum to 1, to the gradient of the
    query only; references get no gradient. Here both get it, as in the formula. The gradient of a batch is about
    twice as long, in nearly the same direction (cosine 0.93 to 1.00). pytorch-metric-learning differentiates through
    w, so its gradient can pull a negative closer; the paper's gradient is the weight.

    Args:
        alpha: α in (0, 2), Euclidean distance outside which negatives belong.
        m: margin; positives belong inside α − m.
        T: T ≥ 0, temperature; with 0 all negatives in N' have equal weights.
        lam: λ in [0, 1], share of the negatives in the loss.

    Raises:
        ValueError: λ is out of range.
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
