from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import log_sum_exp, masked_mean, softplus


class NPairLoss(PairLoss):
    """N-pair loss: separates each positive from all negatives of the anchor at once.

        ℓ_i = mean_P log(1 + Σ_N exp(s (S_in − S_ip)))

    Source: Sohn, NeurIPS 2016, Improved Deep Metric Learning with Multi-class N-pair Loss Objective.

    Deviations: similarities are cosines, so the scale s replaces the norms of the embeddings and the penalty on
    them. All positives and negatives of the batch count, not one image of each class.

    Args:
        scale: s > 0; the paper has no scale, and 10 is our choice.

    Raises:
        ValueError: s is not positive.
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
