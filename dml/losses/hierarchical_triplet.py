"""Hierarchical triplet loss: the margin of a triplet follows from a tree of the classes."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml.losses.pair_loss import Pairs
from dml.losses.similarity import normalize
from dml.losses.triplet import TripletLoss

LARGEST = 4.0  # squared Euclidean distance of opposite unit vectors
ROUNDING = 1e-3  # of a level: classes whose distance is a threshold up to rounding are merged at it


class ClassTree(NamedTuple):
    """Classes and what the tree adds to the margin between two of them.

    Attributes:
        classes: (P,), ascending.
        margin: (P, P), d_H(p, q) − s_p for an anchor of class p and a negative of class q, in squared Euclidean
            distance.
    """

    classes: Int[Tensor, "P"]
    margin: Float[Tensor, "P P"]

    def between(self, labels: Int[Tensor, "Q"], ref_labels: Int[Tensor, "R"]) -> Float[Tensor, "Q R"]:
        """`margin` between the classes of anchors and references; 0 where the tree does not have one of them."""
        row_Q, column_R = (
            torch.searchsorted(self.classes, label_N).clamp_max(len(self.classes) - 1)
            for label_N in (labels, ref_labels)
        )
        known_QR = (self.classes[row_Q] == labels)[:, None] & (self.classes[column_R] == ref_labels)
        return torch.where(known_QR, self.margin[row_Q[:, None], column_R], 0.0)


@torch.no_grad()
def class_tree(embeddings: Float[Tensor, "R D"], labels: Int[Tensor, "R"], levels: int) -> ClassTree:
    """The tree of the classes of some embeddings.

    The mean squared distance between two classes is 2 − 2 m_p·m_q, and within a class of n images
    2n (1 − |m|²)/(n − 1), where m is the mean of the class's unit vectors. So the means are all that is needed.

    Args:
        embeddings: (R, D); L2-normalised here.
        labels: (R,) their classes.
        levels: L.
    """
    classes_P, index_R, count_P = labels.unique(return_inverse=True, return_counts=True)
    z_RD, _ = normalize(embeddings)
    mean_PD = z_RD.new_zeros(len(classes_P), z_RD.shape[1]).index_add_(0, index_R, z_RD) / count_P[:, None]
    several_P = count_P > 1
    spread_P = 2 * count_P * (1 - mean_PD.square().sum(dim=1)) / (count_P - 1).clamp_min(1)
    d_0 = torch.where(several_P, spread_P, 0.0).sum() / several_P.sum().clamp_min(1)
    # A class of one image has no spread of its own.
    s_P = torch.where(several_P, spread_P, d_0)
    step = (LARGEST - d_0).clamp_min(1e-6) / levels
    level_PP = ((linked_distance(2 - 2 * mean_PD @ mean_PD.T) - d_0) / step - ROUNDING).ceil()
    return ClassTree(classes_P, d_0 + step * level_PP.clamp(0, levels) - s_P[:, None])


def linked_distance(distance: Float[Tensor, "P P"]) -> Float[Tensor, "P P"]:
    """Distance at which single linkage merges two classes: the largest step of the path whose largest is smallest."""
    if len(distance) < 2:
        return torch.zeros_like(distance)
    # Imported here, since only this loss needs it.
    from scipy.cluster.hierarchy import cophenet, linkage
    from scipy.spatial.distance import squareform

    # Rounding takes distances of copies below zero, and NaN is kept by the rows themselves; SciPy refuses both.
    bounded_PP = distance.nan_to_num(LARGEST).clamp_min(0)
    upper = squareform(bounded_PP.cpu().numpy(), checks=False)
    linked = squareform(cophenet(linkage(upper, "single")))
    return torch.from_numpy(linked.astype(upper.dtype)).to(distance)


class HierarchicalTripletLoss(TripletLoss):
    """Hierarchical triplet loss (HTL): the later a tree of the classes merges two of them, the larger their margin.

        ℓ_i = mean over (p, n) of ½ [‖a − p‖² − ‖a − n‖² + α]₊;    α = β + d_H(y_a, y_n) − s_{y_a}

    The distance of two classes is the mean squared distance of their images; s_y is that within class y, and d_0 is
    the mean of s over the classes. The tree has levels 0 … L. Level l merges classes not farther apart than
    d_l = d_0 + l (4 − d_0)/L, directly or through a chain of such classes (single linkage). d_H(y_a, y_n) is d_l of
    the first level at which both are in one node. α is held constant in backward. In similarities ½ […] is
    S_an − S_ap + α/2.

    Source: Ge, Huang, Dong and Scott, ECCV 2018, Deep Metric Learning with Hierarchical Triplet Loss. With P×K
    batches and `average="all"` the mean over anchors is the paper's ½ mean over all triplets.

    Deviations:

    - The tree is that of the references of each step: the whole batch and, with memory=xbm, the past embeddings. In
      the paper it is that of the whole training set, made anew after each epoch. A memory as large as the training
      set comes close to it.
    - Batches are not drawn by anchor-neighbour sampling, whose classes lie close together in the tree; nor does
      training start from a network trained with the ordinary triplet loss.

    A row alone does not tell the distances of classes. Without a tree, as in `dml.weights`, α = β.

    Args:
        beta: β > 0, constant part of the margin, in squared Euclidean distance.
        levels: L ≥ 1, number of the tree's levels; the default is not checked against the paper.
        average: as in `TripletLoss`; "all" in the paper.

    Attributes:
        tree: of the references of the last call; None before the first.

    Raises:
        ValueError: β or L is not positive, or `average` is neither.
    """

    def __init__(self, beta: float = 0.1, levels: int = 16, average: str = "all") -> None:
        if beta <= 0 or levels < 1:
            raise ValueError(f"loss.beta and loss.levels must be positive, not {beta} and {levels}.")
        super().__init__(lam=beta / 2, average=average)
        self.levels = levels
        self.tree: ClassTree | None = None

    def prepare(self, references: Float[Tensor, "R D"], ref_labels: Int[Tensor, "R"]) -> None:
        self.tree = class_tree(references, ref_labels, self.levels)

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        if self.tree is not None and pairs.label is not None and pairs.ref_label is not None:
            margin_QR = self.tree.between(pairs.label, pairs.ref_label).to(similarity.dtype)
            similarity = torch.where(pairs.negative, similarity + margin_QR / 2, similarity)
        return super().per_anchor(similarity, pairs)
