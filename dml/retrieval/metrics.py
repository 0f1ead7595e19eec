"""Recall@K, R-precision, MAP@R and reciprocal rank of each query, and their means.

A metric is a function of a `Ranking` that returns one value a query. A new one is a function here, or anywhere, and a
line under `metrics` in `conf/callbacks/default.yaml`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dml.errors import UserError
from dml.retrieval.intervals import class_intervals
from dml.retrieval.ranking import Ranking, rank_positives

Metric = Callable[[Ranking], Float[Tensor, "Q"]]
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


def reciprocal_rank(ranking: Ranking) -> Float[Tensor, "Q"]:
    """1 / rank of a query's most similar positive in the whole gallery, ties counted against it; the mean is MRR.

    Source: Voorhees, TREC-8, 1999.
    """
    return 1 / (ranking.others_ahead + 1).double()


METRICS: dict[str, Metric] = {"r_precision": r_precision, "map_at_r": map_at_r, "mrr": reciprocal_rank}


def recall_metrics(ks: Sequence[int]) -> dict[str, Metric]:
    """`recall_at_K` for every K of `ks`.

    Raises:
        ValueError: a K is not positive.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"Every K of Recall@K must be at least 1, not {list(ks)}.")
    return {f"recall_at_{k}": partial(recall_at_k, k=k) for k in ks}


@dataclass(frozen=True)
class QueryMetrics:
    """Each query's own value of every metric, on the CPU.

    Attributes:
        has_positive: (Q,), whether the gallery holds another image of the query's class; values are meaningless
            where it does not.
        values: name of a metric → (Q,).
    """

    has_positive: Bool[Tensor, "Q"]
    values: Mapping[str, Float[Tensor, "Q"]]

    def means(self) -> dict[str, float]:
        """Each metric's mean over the queries with a positive, and `queries_without_positives`.

        Raises:
            UserError: no query has a positive.
        """
        counted = int(self.has_positive.sum())
        without = len(self.has_positive) - counted
        if counted == 0:
            raise UserError(
                f"None of the {without} queries has another image of its class in the gallery: "
                "retrieval needs classes of at least two images."
            )
        valid = {name: value_Q[self.has_positive].double() for name, value_Q in self.values.items()}
        # Whole numbers, so that the sum does not depend on the order of the queries.
        sums = {name: int((value_Q * UNIT).round().long().sum()) for name, value_Q in valid.items()}
        means = {name: total / (counted * UNIT) for name, total in sums.items()}
        return means | {"queries_without_positives": float(without)}

    def intervals(self, class_Q: Int[np.ndarray, "Q"]) -> dict[str, list[float]]:
        """Each mean's 95% interval [low, high] by a bootstrap over the queries' classes, see `class_intervals`.

        Args:
            class_Q: (Q,), class of each query.
        """
        counted_Q = self.has_positive.numpy()
        value_QM = np.stack([value_Q.double().numpy() for value_Q in self.values.values()], axis=1)
        found = class_intervals(value_QM[counted_Q], class_Q[counted_Q])
        return {} if found is None else dict(zip(self.values, found.tolist(), strict=True))


def query_metrics(ranking: Ranking, metrics: Mapping[str, Metric]) -> QueryMetrics:
    """The values of some metrics for each query of a ranking."""
    return QueryMetrics(ranking.positives > 0, {name: metric(ranking) for name, metric in metrics.items()})


def retrieval_metrics(
    query: Float[Tensor, "Q D"],
    query_labels: Int[Tensor, "Q"],
    gallery: Float[Tensor, "N D"],
    gallery_labels: Int[Tensor, "N"],
    self_index: Int[Tensor, "Q"] | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> dict[str, float]:
    """`recall_at_K` for every K of `ks`, those of `METRICS` and `queries_without_positives`, in one process.

    Several processes share the queries out with `dml.retrieval.evaluate`, with the same result to the last digit.

    Args:
        query, query_labels, gallery, gallery_labels, self_index: as in `rank_positives`.
        ks: each at least 1; a K beyond the gallery is as good as the whole gallery.

    Raises:
        UserError: an embedding is not finite, or no query has a positive.
        ValueError: a K is not positive, or `self_index` does not fit the gallery.
    """
    ranking = rank_positives(query, query_labels, gallery, gallery_labels, self_index)
    return query_metrics(ranking, recall_metrics(ks) | METRICS).means()
