from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import log_sum_exp, softplus


class CircleLoss(PairLoss):
    """Circle loss: a pair's weight grows with the distance of its similarity from the optimum.

        ℓ_i = log(1 + Σ_N exp(γ aₙ (S_in − m)) · Σ_P exp(−γ aₚ (S_ip − 1 + m)))
        aₙ = [S_in + m]₊,    aₚ = [1 + m − S_ip]₊,    both held constant in backward

    Source: Sun et al., CVPR 2020, section 3. Deviations: none known. An anchor without positives or
    without negatives gives 0.

    Args:
        m: relaxation of the decision boundary, 0.4 in the paper for fine-grained retrieval.
        gamma: γ > 0, scale, 80 in the paper for fine-grained retrieval.

    Raises:
        ValueError: γ is not positive.
    """

    def __init__(self, m: float = 0.4, gamma: float = 80.0) -> None:
        super().__init__()
        if gamma <= 0:
            raise ValueError(f"loss.gamma must be positive, not {gamma}.")
        self.m, self.gamma = m, gamma

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        S_QR = similarity.detach()
        pace_negative_QR = (S_QR + self.m).relu()
        pace_positive_QR = (1 + self.m - S_QR).relu()
        negative_QR = self.gamma * pace_negative_QR * (similarity - self.m)
        positive_QR = -self.gamma * pace_positive_QR * (similarity - 1 + self.m)
        return softplus(log_sum_exp(negative_QR, pairs.negative) + log_sum_exp(positive_QR, pairs.positive))
