from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import log_sum_exp, masked_mean


class SupervisedContrastiveLoss(PairLoss):
    """Supervised contrastive loss: separates each positive from all other images of the batch.

        ℓ_i = mean_P −log(exp(S_ip / τ) / Σ_{P ∪ N} exp(S_ij / τ))

    Source: Khosla et al., NeurIPS 2020, equation 2. An anchor without positives gives 0.

    An anchor's positives compete: a positive whose softmax exceeds 1/|P| is pushed away. This is the only loss here
    whose gradient can be positive on a positive pair.

    Deviations: the authors' code multiplies the loss by τ / base temperature, both 0.07; here the factor is 1.

    Args:
        tau: τ > 0, temperature.

    Raises:
        ValueError: τ is not positive.
    """

    def __init__(self, tau: float = 0.1) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f"loss.tau must be positive, not {tau}.")
        self.tau = tau

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        logits_QR = similarity / self.tau
        total_Q = log_sum_exp(logits_QR, pairs.positive | pairs.negative)
        return masked_mean(total_Q[:, None] - logits_QR, pairs.positive)
