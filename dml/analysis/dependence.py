"""Which similarities the weight of a pair depends on, measured.

Wang et al., CVPR 2019, section 3, distinguish three similarities of a pair (i, j). Their Table 1 lists for each loss
those that it considers:

    S  self-similarity                the pair's own S_ij
    N  negative relative similarity   S_ij against the anchor's other negatives, S_ij − S_in
    P  positive relative similarity   S_ij against the anchor's other positives, S_ij − S_ip

This module measures the table. The three are coordinates of an anchor's row: the pair's own similarity, the
differences to the other negatives, and the differences to the other positives. Each is moved while the other two stay
fixed:

    S  every similarity of the row is shifted by the same δ:  S_ij changes, no difference does
    N  the other negatives are shifted by δ:                  only the differences to them change
    P  the other positives are shifted by δ:                  only the differences to them change

The pair's weight |∂ℓ_i/∂S_ij| depends on a similarity if moving it changes the weight. The shifts are finite: the
weights from a hinge or a mining are constant almost everywhere, so a derivative would miss the dependence. All
similarities stay within [−1, 1], the range of cosines. Every such row is possible, because there are an anchor and
references with these similarities.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dml.losses import PairLoss, Pairs, pair_weights

Kind = Literal["positive", "negative"]
KINDS: tuple[Kind, Kind] = ("positive", "negative")
SHIFTS = (-0.5, -0.25, -0.1, 0.1, 0.25, 0.5)
# Relative change of a weight that counts: far above float64 rounding, far below any real change.
TOLERANCE = 1e-6


class WeightDependence(NamedTuple):
    """Shares of anchors, 0 to 1, whose pair's weight changed when a similarity was moved.

    Attributes:
        self_similarity: S.
        negatives: N.
        positives: P.
    """

    self_similarity: float
    negatives: float
    positives: float


def row_pairs(count: int, positives: int, negatives: int) -> Pairs:
    """Pairs of `count` anchors: in each row the first columns are positives, the others negatives."""
    positive_QR = (torch.arange(positives + negatives) < positives).expand(count, -1)
    return Pairs(positive_QR, ~positive_QR, torch.zeros(count, dtype=torch.long))


def steady_weights(loss: PairLoss, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q R"]:
    """`pair_weights` with a fixed seed, so that a loss with a random mining draws the same pairs at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return pair_weights(loss, similarity, pairs)


def weight_dependence(
    loss: PairLoss, kind: Kind, anchors: int = 512, positives: int = 4, negatives: int = 8
) -> WeightDependence:
    """Measures on which similarities the weight of a positive or of a negative depends.

    Args:
        loss: any pair loss.
        kind: the kind of the pair whose weight is measured, the first of its kind in each row.
        anchors: number of random rows, with similarities uniform in [−0.5, 0.5].
        positives: positives of each anchor, at least 2.
        negatives: negatives of each anchor, at least 2; with few, some rows have no hard negative.
    """
    generator = torch.Generator().manual_seed(0)
    S_QR = torch.rand(anchors, positives + negatives, generator=generator, dtype=torch.float64) - 0.5
    pairs = row_pairs(anchors, positives, negatives)
    watched = 0 if kind == "positive" else positives
    others_R = torch.arange(positives + negatives) != watched
    moved = (torch.ones_like(others_R), pairs.negative[0] & others_R, pairs.positive[0] & others_R)
    return WeightDependence(*(share_changed(loss, S_QR, pairs, columns_R, watched) for columns_R in moved))


def share_changed(
    loss: PairLoss,
    similarity: Float[Tensor, "Q R"],
    pairs: Pairs,
    columns: Bool[Tensor, "R"],
    watched: int,
    shifts: Sequence[float] = SHIFTS,
) -> float:
    """Share of anchors whose weight in column `watched` changes when `columns` are moved by any of the shifts."""
    before_Q = steady_weights(loss, similarity, pairs)[:, watched]
    changed_Q = torch.zeros(len(similarity), dtype=torch.bool)
    for shift in shifts:
        after_Q = steady_weights(loss, similarity + shift * columns, pairs)[:, watched]
        changed_Q |= (after_Q - before_Q).abs() > TOLERANCE * torch.maximum(before_Q, after_Q)
    return changed_Q.double().mean().item()
