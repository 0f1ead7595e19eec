from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.mining import AllMining, Mining
from dml.losses.pair_loss import PairLoss, Pairs
from dml.losses.weighting import by_kind

WeightFunction = Callable[[Tensor], Tensor]


class WeightedPairLoss(PairLoss):
    """A loss defined by w⁺(S) and w⁻(S), the weights of a positive and of a negative with similarity S.

        ℓ_i = Σ_N w⁻(S_ij) S_ij − Σ_P w⁺(S_ij) S_ij,    w held constant in backward

    Source: Wang et al., CVPR 2019, section 3: every pair-based loss has this gradient for some weights, so the
    weights define the loss. docs/pair_weighting.md shows how a yaml names functions of a module of your own.

    Args:
        positive_weight: w⁺ ≥ 0, a function of similarities, (Q, R) → (Q, R).
        negative_weight: w⁻ ≥ 0, likewise.
        mining: which pairs count; None for all.
    """

    def __init__(
        self, positive_weight: WeightFunction, negative_weight: WeightFunction, mining: Mining | None = None
    ) -> None:
        super().__init__()
        self.positive_weight, self.negative_weight = positive_weight, negative_weight
        self.mining = mining or AllMining()

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        with torch.no_grad():
            mined = self.mining(similarity, pairs)
            signed_QR = by_kind(-self.positive_weight(similarity), self.negative_weight(similarity), mined)
        return (signed_QR * similarity).sum(dim=1)
