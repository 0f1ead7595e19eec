"""Ranks of each query's positives in the gallery, ties counted against the query."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dml.retrieval.index import check_self_index
from dml.retrieval.similarity import as_embeddings, similarity_blocks


class Ranking(NamedTuple):
    """What the metrics read of each query. Positives are the other gallery images of its class.

    All fields are on the CPU: the metrics are float64, which not every GPU has.

    Attributes:
        positives: (Q,) int64, R, number of positives; without any, the other fields are meaningless.
        others_ahead: (Q,) int64, images of other classes at least as similar as the most similar positive.
        hits_at_r: (Q,) int64, positives among the R nearest.
        average_precision_at_r: (Q,) float64, 1/R · Σ of the precision at each positive among the R nearest.
        right_index: (Q,) int64, position in the gallery of the most similar positive.
        right_similarity: (Q,) float32, its similarity; −∞ without a positive.
        wrong_index: (Q,) int64, position in the gallery of the most similar image of another class.
        wrong_similarity: (Q,) float32, its similarity; −∞ where the gallery has no other class.
    """

    positives: Int[Tensor, "Q"]
    others_ahead: Int[Tensor, "Q"]
    hits_at_r: Int[Tensor, "Q"]
    average_precision_at_r: Float[Tensor, "Q"]
    right_index: Int[Tensor, "Q"]
    right_similarity: Float[Tensor, "Q"]
    wrong_index: Int[Tensor, "Q"]
    wrong_similarity: Float[Tensor, "Q"]


class ClassMembers:
    """The gallery images of each class.

    Args:
        gallery_labels: (N,).
    """

    def __init__(self, gallery_labels: Int[Tensor, "N"]) -> None:
        self.sorted_N, self.order_N = gallery_labels.long().sort(stable=True)
        self.largest = int(self.sorted_N.unique_consecutive(return_counts=True)[1].max())

    def of(
        self, labels: Int[Tensor, "Q"], self_index: Int[Tensor, "Q"] | None
    ) -> tuple[Int[Tensor, "Q M"], Bool[Tensor, "Q M"], Bool[Tensor, "Q M"]]:
        """The members of each query's class in rows of M columns, the size of the largest class.

        Returns:
            positions in the gallery, any in columns beyond the class; whether the image there is of the query's
            class; whether it is a positive, that is, not the query itself.
        """
        first_Q1 = torch.searchsorted(self.sorted_N, labels.long())[:, None]
        end_Q1 = torch.searchsorted(self.sorted_N, labels.long(), right=True)[:, None]
        place_QM = first_Q1 + torch.arange(self.largest, device=labels.device)
        column_QM = self.order_N[place_QM.clamp(max=len(self.order_N) - 1)]
        same_class_QM = place_QM < end_Q1
        if self_index is None:
            return column_QM, same_class_QM, same_class_QM
        return column_QM, same_class_QM, same_class_QM & (column_QM != self_index[:, None])


def largest(S_BN: Float[Tensor, "B N"], k: int) -> tuple[Float[Tensor, "B k"], Int[Tensor, "B k"]]:
    """The k largest values of each row in falling order and their columns, as by topk, but faster in long rows.

    The columns are dealt out to groups of 64. No value outside the k groups with the largest maxima can exceed the
    k maxima of those groups, so these groups hold the k largest values, ties or not.
    """
    width = 64
    groups = S_BN.shape[1] // width
    if groups < 2 * k:
        values, columns = S_BN.topk(k, dim=1)
        return values, columns
    dealt_BWG = S_BN[:, : groups * width].unflatten(1, (width, groups))
    group_Bk = dealt_BWG.amax(dim=1).topk(k, dim=1).indices
    column_BkW = group_Bk[:, :, None] + groups * torch.arange(width, device=S_BN.device)
    rest = torch.arange(groups * width, S_BN.shape[1], device=S_BN.device).expand(len(S_BN), -1)
    column_BX = torch.cat([column_BkW.flatten(1), rest], dim=1)
    values, places = S_BN.gather(1, column_BX).topk(k, dim=1)
    return values, column_BX.gather(1, places)


def rank_block(
    S_BN: Float[Tensor, "B N"],
    column_BM: Int[Tensor, "B M"],
    same_class_BM: Bool[Tensor, "B M"],
    positive_BM: Bool[Tensor, "B M"],
) -> Ranking:
    """Ranking of the queries with these similarities and class members; S_BN is overwritten."""
    s_BM = S_BN.gather(1, column_BM).masked_fill(~positive_BM, -torch.inf)
    s_BM, order_BM = s_BM.sort(dim=1, descending=True)
    right_B = column_BM.gather(1, order_BM[:, :1]).flatten()
    row, place = same_class_BM.nonzero(as_tuple=True)
    S_BN[row, column_BM[row, place]] = -torch.inf  # what is left are the images of other classes

    R_B1 = positive_BM.sum(dim=1, keepdim=True)
    # An image among the R nearest has fewer than R ≤ M others ahead, so the M most similar others decide.
    others_BM, other_BM = largest(S_BN, column_BM.shape[1])
    ahead_BM = torch.searchsorted(-others_BM, -s_BM, right=True)  # others with a similarity ≥ the positive's
    nth_M = torch.arange(1, s_BM.shape[1] + 1, device=s_BM.device)
    position_BM = nth_M + ahead_BM  # beyond M where there is no n-th positive, at −∞
    hit_BM = position_BM <= R_B1

    # In place and in float32: several times as fast as a sum of booleans, and exact below 2²⁴ images.
    others_ahead_B = S_BN.ge_(s_BM[:, :1]).sum(dim=1).long()
    # float64 from here on, which Apple's GPUs do not have.
    R_B, nth_M, position_BM, hit_BM = R_B1.flatten().cpu(), nth_M.cpu(), position_BM.cpu(), hit_BM.cpu()
    precision_BM = torch.where(hit_BM, nth_M.double() / position_BM, 0.0)
    average_precision_B = precision_BM.sum(dim=1) / R_B.clamp(min=1)
    nearest = right_B, s_BM[:, 0], other_BM[:, 0], others_BM[:, 0]
    counts = R_B, others_ahead_B.cpu(), hit_BM.sum(dim=1), average_precision_B
    return Ranking(*counts, *(field_B.cpu() for field_B in nearest))


@torch.no_grad()
def rank_positives(
    query_QD: Float[Tensor, "Q D"],
    query_labels: Int[Tensor, "Q"],
    gallery_ND: Float[Tensor, "N D"],
    gallery_labels: Int[Tensor, "N"],
    self_index: Int[Tensor, "Q"] | None = None,
) -> Ranking:
    """Ranks of each query's positives among all gallery images, in one pass over the similarity matrix.

    Similarities are inner products. Among equal similarities other classes come first. That needs whole rows: a list
    of the k nearest cannot tell how many more would tie with its last. The sharing of queries among processes does
    not change a query's result; see `similarity_blocks`.

    Args:
        query_QD: (Q, D); any share of the queries, none included.
        query_labels: (Q,).
        gallery_ND: (N, D), the whole gallery, N ≥ 1 and below 2²⁴.
        gallery_labels: (N,).
        self_index: (Q,) position of each query in the gallery; None where no query is in it (In-Shop).

    Raises:
        ValueError: `self_index` points outside the gallery or at an image of another class.
        UserError: an embedding holds a NaN or an infinity.
    """
    query_QD, gallery_ND = as_embeddings(query_QD, "query"), as_embeddings(gallery_ND, "gallery")
    if self_index is not None:
        check_self_index(self_index, len(gallery_ND))
        astray = int((gallery_labels[self_index] != query_labels).sum())
        if astray:
            raise ValueError(f"self_index gives {astray} queries an image of another class for themselves.")
    members = ClassMembers(gallery_labels)
    blocks = []
    for block, S_BN in similarity_blocks(query_QD, gallery_ND):
        own_B = None if self_index is None else self_index[block]
        blocks.append(rank_block(S_BN, *members.of(query_labels[block], own_B)))
    return Ranking(*(torch.cat(field) for field in zip(*blocks, strict=True)))
