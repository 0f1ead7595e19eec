"""Recall@K, R-precision and MAP@R, as sums that several processes can add up."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml.errors import UserError
from dml.retrieval.ranking import Ranking, rank_positives

UNIT = 2**40  # a metric's value of 1 in a sum of whole numbers: 12 digits, and room for 8 million queries


def recall_at_k(ranking: Ranking, k: int) -> Float[Tensor, "Q"]:
    """1 for a query with an image of its class among its k nearest, else 0; the mean is Recall@K.

    Ties count against the query: a hit needs fewer than k images of other classes at least as similar as its
    most similar positive. Source: Song et al., CVPR 2016.
    """
    return (ranking.others_ahead < k).double()


def r_precision(ranking: Ranking) -> Float[Tensor, "Q"]:
    """Share of positives among a query's R nearest, R being the number of its positives.

    Source: Musgrave et al., ECCV 2020.
    """
    return ranking.hits_at_r.double() / ranking.positives.clamp(min=1)


def map_at_r(ranking: Ranking) -> Float[Tensor, "Q"]:
    """Average precision over a query's R nearest; the mean is MAP@R.

        1/R · Σ_{i ≤ R} P(i),  P(i) = precision at i if the i-th nearest is a positive, else 0

    Source: Musgrave et al., ECCV 2020.
    """
    return ranking.average_precision_at_r


@dataclass(frozen=True)
class RetrievalSums:
    """Sums of the metrics over a share of the queries; adding shares gives those of all queries exactly.

    Attributes:
        names: T names of metrics.
        totals: (2 + T,) int64: queries counted, queries left out, each metric's sum in units of 1 / `UNIT`.
            Whole numbers, so that the order of addition does not matter; to be all-reduced with SUM. On the CPU.
    """

    names: tuple[str, ...]
    totals: Int[Tensor, "totals"]

    def __add__(self, other: "RetrievalSums") -> "RetrievalSums":
        if self.names != other.names:
            raise ValueError(f"Sums of {self.names} and of {other.names} cannot be added.")
        return RetrievalSums(self.names, self.totals + other.totals)

    def means(self) -> dict[str, float]:
        """Each metric's mean over the queries counted, and `queries_left_out`.

        Raises:
            UserError: no query was counted.
        """
        counted, left_out, *sums = self.totals.tolist()
        if counted == 0:
            raise UserError(
                f"None of the {left_out} queries has another image of its class in the gallery: "
                "retrieval needs classes of at least two images."
            )
        means = {name: total / (counted * UNIT) for name, total in zip(self.names, sums, strict=True)}
        return means | {"queries_left_out": float(left_out)}


def retrieval_sums(ranking: Ranking, ks: Sequence[int]) -> RetrievalSums:
    """Sums of `recall_at_K` for every K of `ks`, `r_precision`, `map_at_r` over the queries with a positive.

    Raises:
        ValueError: a K is not positive.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"Every K of Recall@K must be at least 1, not {list(ks)}.")
    values = {f"recall_at_{k}": recall_at_k(ranking, k) for k in ks}
    values |= {"r_precision": r_precision(ranking), "map_at_r": map_at_r(ranking)}
    counted_Q = ranking.positives > 0
    sums = [(value_Q[counted_Q] * UNIT).round().long().sum() for value_Q in values.values()]
    totals = torch.stack([counted_Q.sum(), (~counted_Q).sum(), *sums])
    return RetrievalSums(tuple(values), totals)


def retrieval_metrics(
    query: Float[Tensor, "Q D"],
    query_labels: Int[Tensor, "Q"],
    gallery: Float[Tensor, "N D"],
    gallery_labels: Int[Tensor, "N"],
    self_index: Int[Tensor, "Q"] | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> dict[str, float]:
    """`recall_at_K` for every K of `ks`, `r_precision`, `map_at_r` and `queries_left_out`, in one process.

    With several processes each calls `rank_positives` and `retrieval_sums` on its share of the queries; the
    sums added up have the same means to the last digit.

    Args:
        query, query_labels, gallery, gallery_labels, self_index: as in `rank_positives`.
        ks: each at least 1; a K beyond the gallery is as good as the whole gallery.

    Raises:
        UserError: an embedding is not finite, or no query has a positive.
        ValueError: a K is not positive, or `self_index` does not fit the gallery.
    """
    ranking = rank_positives(query, query_labels, gallery, gallery_labels, self_index)
    return retrieval_sums(ranking, ks).means()
