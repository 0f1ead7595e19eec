"""Pair weighting: how much each pair of a row counts.

A weighting is called as `weighting(similarity, pairs)` and returns weights ≥ 0, (Q, R), zero off the pairs.
A weighting named after a loss is the analytic |∂ℓ_i/∂S_ij| of that loss. Source: Wang et al., CVPR 2019, section 3,
and Liu et al., arXiv 1905.12837, who separate mining from weighting.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.reductions import log_one_plus_sum_exp, masked_softmax, masked_sum
from dml.losses.triplet import triplet_counts

Weighting = Callable[[Tensor, Pairs], Tensor]
Weights = Float[Tensor, "Q R"]


@torch.enable_grad()
def pair_weights(loss: PairLoss, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q R"]:
    """Weight of each pair in its anchor's loss, w_ij = |∂ℓ_i/∂S_ij|, by autograd; zero off the pairs.

    Source: Wang et al., CVPR 2019, section 3. In the mean over Q anchors the weights are 1/Q of these.

    Args:
        loss: any pair loss.
        similarity: (Q, R) cosine similarities.
        pairs: which entries are positive and which negative.
    """
    S_QR = similarity.detach().requires_grad_()
    # A row depends on no other, so the gradient of the sum holds the gradient of each.
    (gradient_QR,) = torch.autograd.grad(loss.per_anchor(S_QR, pairs).sum(), S_QR)
    return gradient_QR.abs()


def by_kind(positive: Weights, negative: Weights, pairs: Pairs) -> Weights:
    """The positives' weights, the negatives' weights, and zero elsewhere."""
    return torch.where(pairs.positive, positive, torch.where(pairs.negative, negative, 0.0))


@dataclass
class ConstantWeighting:
    """w = 1 for each pair; with λ, the weights of the contrastive loss.

    Args:
        lam: λ, similarity above which a negative counts; None counts all.
    """

    lam: float | None = None

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Weights:
        active_QR = pairs.negative if self.lam is None else pairs.negative & (similarity > self.lam)
        return (pairs.positive | active_QR).to(similarity.dtype)


@dataclass
class PowerWeighting:
    """w⁺ = [1 + m − S]₊^p and w⁻ = [S + m]₊^p: powers of the distance from the optimum.

    With p = 1 these are the factors aₚ and aₙ of the circle loss (Sun et al., CVPR 2020, section 3).

    Args:
        m: relaxation; the weight is zero at S = 1 + m for a positive, at S = −m for a negative.
        p: power, above 0.

    Raises:
        ValueError: p is not positive.
    """

    m: float = 0.0
    p: float = 1.0

    def __post_init__(self) -> None:
        if self.p <= 0:
            raise ValueError(f"weighting.p must be positive, not {self.p}.")

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Weights:
        positive_QR = (1 + self.m - similarity).relu() ** self.p
        return by_kind(positive_QR, (similarity + self.m).relu() ** self.p, pairs)


@dataclass
class ExponentialWeighting:
    """w⁺ = softmax_P(−α S), w⁻ = softmax_N(β S).

    With α = β = 1 these are the weights of the lifted structure loss where its hinge is active.

    Args:
        alpha: α ≥ 0, sharpness among the positives.
        beta: β ≥ 0, sharpness among the negatives.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Weights:
        positive_QR = masked_softmax(-self.alpha * similarity, pairs.positive)
        return positive_QR + masked_softmax(self.beta * similarity, pairs.negative)


@dataclass
class LogisticWeighting:
    """w⁺ = α/|P| · σ(α (λ − S)), w⁻ = β/|N| · σ(β (S − λ)): the weights of the binomial deviance loss.

    Args:
        alpha: α > 0, sharpness of the positives' weights.
        beta: β > 0, sharpness of the negatives' weights.
        lam: λ, similarity threshold between positives and negatives.
    """

    alpha: float = 2.0
    beta: float = 50.0
    lam: float = 0.5

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Weights:
        positive_QR = self.alpha * torch.sigmoid(self.alpha * (self.lam - similarity))
        negative_QR = self.beta * torch.sigmoid(self.beta * (similarity - self.lam))
        count_positive_Q1 = pairs.positive.sum(dim=1, keepdim=True).clamp_min(1)
        count_negative_Q1 = pairs.negative.sum(dim=1, keepdim=True).clamp_min(1)
        return by_kind(positive_QR / count_positive_Q1, negative_QR / count_negative_Q1, pairs)


@dataclass
class MultiSimilarityWeighting:
    """The weights of the multi-similarity loss.

        w⁺ = e^x / (1 + Σ_P e^x),  x = α (λ − S);    w⁻ = e^y / (1 + Σ_N e^y),  y = β (S − λ)

    Source: Wang et al., CVPR 2019, section 4.

    Args:
        alpha: α > 0, sharpness of the positives' weights.
        beta: β > 0, sharpness of the negatives' weights.
        lam: λ, similarity threshold between positives and negatives.
    """

    alpha: float = 2.0
    beta: float = 40.0
    lam: float = 0.5

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Weights:
        x_QR = self.alpha * (self.lam - similarity)
        y_QR = self.beta * (similarity - self.lam)
        positive_QR = torch.exp(x_QR - log_one_plus_sum_exp(x_QR, pairs.positive)[:, None])
        negative_QR = torch.exp(y_QR - log_one_plus_sum_exp(y_QR, pairs.negative)[:, None])
        return by_kind(positive_QR, negative_QR, pairs)


@dataclass
class TripletWeighting:
    """Share of the anchor's active triplets, S_p − λ < S_n, that the pair is in: the weights of the triplet loss.

    Args:
        lam: λ > 0, margin in similarity.
    """

    lam: float = 0.1

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Weights:
        count_QR = triplet_counts(similarity, pairs, self.lam)
        return count_QR / masked_sum(count_QR, pairs.positive).clamp_min(1)[:, None]
