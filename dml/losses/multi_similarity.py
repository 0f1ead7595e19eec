from jaxtyping import Float
from torch import Tensor

from dml.losses.mining import RelativeMining
from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import log_one_plus_sum_exp


class MultiSimilarityLoss(PairLoss):
    """Multi-similarity loss: a weight depends on all three similarities of a pair.

        ℓ_i = 1/α · log(1 + Σ_P exp(−α (S_ij − λ))) + 1/β · log(1 + Σ_N exp(β (S_ij − λ)))

    over the pairs kept by mining with margin ε (`RelativeMining`).

    Source: Wang et al., CVPR 2019, equation 15; mining equations 11 and 12.

    Deviations from the authors' released code: self-pairs are excluded by index, not by S < 1 − 1e-5, so true
    duplicates count. The largest exponent is factored out of the sums, so no β overflows. A batch without mined
    pairs gives a zero that can still be backpropagated. As in their code, the mean is over all anchors.

    Args:
        alpha: α > 0, sharpness of the positives' weights.
        beta: β > 0, sharpness of the negatives' weights.
        lam: λ in [−1, 1], similarity threshold between positives and negatives.
        epsilon: ε, mining margin in similarity; None switches mining off.

    Raises:
        ValueError: α or β is not positive.
    """

    def __init__(
        self, alpha: float = 2.0, beta: float = 50.0, lam: float = 1.0, epsilon: float | None = 0.1
    ) -> None:
        super().__init__()
        if alpha <= 0 or beta <= 0:
            raise ValueError(f"loss.alpha and loss.beta must be positive, not {alpha} and {beta}.")
        self.alpha, self.beta, self.lam, self.epsilon = alpha, beta, lam, epsilon

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        if self.epsilon is not None:
            pairs = RelativeMining(self.epsilon)(similarity, pairs)
        positive_Q = log_one_plus_sum_exp(self.lam - similarity, pairs.positive, self.alpha)
        return positive_Q + log_one_plus_sum_exp(similarity - self.lam, pairs.negative, self.beta)
