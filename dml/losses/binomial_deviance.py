"""The binomial deviance loss."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_mean, softplus


class BinomialDevianceLoss(PairLoss):
    """Binomial deviance loss: a smooth contrastive loss, a pair weighed by its own similarity alone.

        ℓ_i = mean_P log(1 + exp(α (λ − S_ij))) + mean_N log(1 + exp(β (S_ij − λ)))

    Source: Yi, Lei and Li, ICPR 2014, in the form of Wang et al., CVPR 2019, section 3.

    Deviations from Yi et al.: means over each anchor's pairs, not over all pairs of the batch; their cost C
    of a negative is in β (their α = 2, C = 25, β = 0.5 are here α = 2, β = 50, λ = 0.5).

    Args:
        alpha: α > 0, sharpness of the positives' weights.
        beta: β > 0, sharpness of the negatives' weights.
        lam: λ, the similarity at which positives and negatives part, in [−1, 1].
    """

    def __init__(self, alpha: float = 2.0, beta: float = 50.0, lam: float = 0.5) -> None:
        super().__init__()
        if alpha <= 0 or beta <= 0:
            raise ValueError(f"loss.alpha and loss.beta must be positive, not {alpha} and {beta}.")
        self.alpha, self.beta, self.lam = alpha, beta, lam

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        excess_QR = similarity - self.lam
        cost_QR = softplus(torch.where(pairs.positive, -self.alpha, self.beta) * excess_QR)
        return masked_mean(cost_QR, pairs.positive) + masked_mean(cost_QR, pairs.negative)
