"""Exact retrieval and its metrics."""

from dml.retrieval.clustering import clustering_metrics
from dml.retrieval.index import Neighbours, nearest
from dml.retrieval.metrics import RetrievalSums, retrieval_metrics, retrieval_sums
from dml.retrieval.ranking import Ranking, rank_positives

__all__ = [
    "Neighbours",
    "Ranking",
    "RetrievalSums",
    "clustering_metrics",
    "nearest",
    "rank_positives",
    "retrieval_metrics",
    "retrieval_sums",
]
