"""The N-pair loss."""

from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import log_sum_exp, masked_mean, softplus


class NPairLoss(PairLoss):
    """N-pair loss: each positive told from all negatives of the anchor at once.

        ℓ_i = mean_P log(1 + Σ_N exp(s (S_in − S_ip)))

    Source: Sohn, NeurIPS 2016, Improved Deep Metric Learning with Multi-class N-pair Loss Objective.

    Deviations: similarities are cosines, so a scale s takes the place of the embeddings' lengths and of the
    penalty on them; all positives and all negatives of the batch take part, not one image of each class.

    Args:
        scale: s > 0; 10 is our choice, there is none in the paper.
    """

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"loss.scale must be positive, not {scale}.")
        self.scale = scale

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        logits_QR = self.scale * similarity
        negatives_Q = log_sum_exp(logits_QR, pairs.negative)
        return masked_mean(softplus(negatives_Q[:, None] - logits_QR), pairs.positive)
