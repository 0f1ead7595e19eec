"""Which similarities the weight of a pair depends on, measured.

Wang et al., CVPR 2019, section 3, distinguish three similarities of a pair (i, j). Their Table 1 lists for each loss
those that it considers:

    S  self-similarity                the pair's own S_ij
    N  negative relative similarity   S_ij − S_in, to the anchor's other negatives
    P  positive relative similarity   S_ij − S_ip, to the anchor's other positives

This module measures the table. The three are coordinates of an anchor's row. Each is moved while the other two stay
fixed: for S every similarity of the row is shifted by the same δ, for N the other negatives, for P the other
positives. The pair's weight |∂ℓ_i/∂S_ij| depends on a similarity if moving it changes the weight. The shifts are
finite: the weights from a hinge or a mining are constant almost everywhere, so a derivative would miss the dependence.
All similarities stay within [−1, 1]; every such row is possible.
"""

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


def weight_dependence(loss: PairLoss, kind: Kind) -> WeightDependence:
    """Measures on which similarities the weight of a positive or of a negative depends.

    The rows are 512 anchors with 4 positives and 8 negatives each. With fewer negatives, some rows have no hard one.

    Args:
        loss: any pair loss.
        kind: the kind of the pair whose weight is measured, the first of its kind in each row.
    """
    pairs = row_pairs(512, positives=4, negatives=8)
    generator = torch.Generator().manual_seed(0)
    S_QR = torch.rand(pairs.positive.shape, generator=generator, dtype=torch.float64) - 0.5  # in [−0.5, 0.5)
    watched = 0 if kind == "positive" else 4
    others_R = torch.arange(S_QR.shape[1]) != watched
    moved = (torch.ones_like(others_R), pairs.negative[0] & others_R, pairs.positive[0] & others_R)
    return WeightDependence(*(share_changed(loss, S_QR, pairs, columns_R, watched) for columns_R in moved))


def share_changed(
    loss: PairLoss, similarity: Float[Tensor, "Q R"], pairs: Pairs, columns: Bool[Tensor, "R"], watched: int
) -> float:
    """Share of anchors whose weight in column `watched` changes when `columns` are moved by any of `SHIFTS`."""
    before_Q = steady_weights(loss, similarity, pairs)[:, watched]
    changed_Q = torch.zeros(len(similarity), dtype=torch.bool)
    for shift in SHIFTS:
        after_Q = steady_weights(loss, similarity + shift * columns, pairs)[:, watched]
        changed_Q |= (after_Q - before_Q).abs() > TOLERANCE * torch.maximum(before_Q, after_Q)
    return changed_Q.double().mean().item()
