import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import masked_mean, softplus


class BinomialDevianceLoss(PairLoss):
    """Binomial deviance loss: a smooth contrastive loss; a weight depends on the pair's own similarity only.

        ℓ_i = mean_P log(1 + exp(α (λ − S_ij))) + mean_N log(1 + exp(β (S_ij − λ)))

    Source: Yi, Lei and Li, ICPR 2014, in the form of Wang et al., CVPR 2019, section 3.

    Deviations from Yi et al.: the means are over each anchor's pairs, not over all pairs of the batch. Their
    cost C of negatives is part of β: their α = 2, C = 25, β = 0.5 are α = 2, β = 50, λ = 0.5 here.

    Args:
        alpha: α > 0, sharpness of the positives' weights.
        beta: β > 0, sharpness of the negatives' weights.
        lam: λ in [−1, 1], similarity threshold between positives and negatives.

    Raises:
        ValueError: α or β is not positive.
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
