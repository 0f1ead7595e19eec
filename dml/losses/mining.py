"""Pair mining: which pairs of a row count.

A mining is called as `mining(similarity, pairs)` and returns the pairs that it keeps. No gradient flows through
it. Pairs of equal similarity are kept or dropped together. Copies of an image may differ in the last bits of their
similarities (see `dml.losses.similarity.cosine_similarity`); then one may be kept without the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dml.losses.pair_loss import Pairs
from dml.losses.reductions import masked_max, masked_min
from dml.losses.triplet import triplet_counts

Mining = Callable[[Tensor, Pairs], Pairs]


@dataclass
class RelativeMining:
    """Pairs that are hard relative to the anchor's own pairs of the other kind.

        negative kept:  S_ij > min over positives k of S_ik − ε
        positive kept:  S_ij < max over negatives k of S_ik + ε

    An anchor keeps pairs of both kinds or none.
    Source: Wang et al., CVPR 2019, section 4.1, equations 11 and 12.

    Args:
        epsilon: margin ε in similarity; larger keeps more pairs.
    """

    epsilon: float = 0.1

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Pairs:
        S_QR = similarity.detach()
        # Both comparisons use the same rounded S + ε, so an anchor keeps positives exactly when it keeps negatives.
        raised_QR = S_QR + self.epsilon
        hardest_positive_Q1 = masked_min(S_QR, pairs.positive)
        hardest_negative_Q1 = masked_max(raised_QR, pairs.negative)
        return pairs._replace(
            positive=pairs.positive & (hardest_negative_Q1 > S_QR),
            negative=pairs.negative & (raised_QR > hardest_positive_Q1),
        )


class AllMining:
    """Every pair."""

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Pairs:
        return pairs


class HardestMining:
    """Each anchor's least similar positive and most similar negative.

    Source: Hermans, Beyer and Leibe, arXiv 1703.07737 (batch hard).
    """

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Pairs:
        S_QR = similarity.detach()
        return pairs._replace(
            positive=pairs.positive & (masked_min(S_QR, pairs.positive) == S_QR),
            negative=pairs.negative & (masked_max(S_QR, pairs.negative) == S_QR),
        )


@dataclass
class SemiHardMining:
    """Pairs in at least one semi-hard triplet: S_ip − λ < S_in < S_ip.

    Source: Schroff, Kalenichenko and Philbin, CVPR 2015, section 3.2.

    Args:
        lam: λ > 0, margin in similarity.
    """

    lam: float = 0.1

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Pairs:
        mined_QR = triplet_counts(similarity.detach(), pairs, self.lam, semi_hard=True) > 0
        return pairs._replace(positive=pairs.positive & mined_QR, negative=pairs.negative & mined_QR)


class EasyPositiveMining:
    """Each anchor's most similar positive, and its most similar negative below that positive.

    Source: Xuan, Stylianou and Pless, WACV 2020 (easy positive, semi-hard negative).
    """

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Pairs:
        S_QR = similarity.detach()
        easiest_Q1 = masked_max(S_QR, pairs.positive)
        below_QR = pairs.negative & (easiest_Q1 > S_QR)
        return pairs._replace(
            positive=pairs.positive & (easiest_Q1 == S_QR),
            negative=below_QR & (masked_max(S_QR, below_QR) == S_QR),
        )


@dataclass
class TopKMining:
    """Each anchor's k least similar positives and k most similar negatives.

    Args:
        k: pairs of each kind to keep, at least 1; an anchor with fewer keeps all.

    Raises:
        ValueError: k is below 1.
    """

    k: int = 5

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"mining.k must be at least 1, not {self.k}.")

    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Pairs:
        S_QR = similarity.detach()
        return pairs._replace(
            positive=self.hardest(-S_QR, pairs.positive), negative=self.hardest(S_QR, pairs.negative)
        )

    def hardest(self, hardness: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Bool[Tensor, "Q R"]:
        """The k largest masked entries of each row."""
        top_Qk = torch.where(mask, hardness, -torch.inf).topk(min(self.k, mask.shape[1]), dim=1).values
        return mask & (hardness >= top_Qk[:, -1:])
