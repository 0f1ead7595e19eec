"""Exact retrieval and its metrics."""

from dml.retrieval.clustering import clustering_metrics
from dml.retrieval.index import Neighbours, nearest
from dml.retrieval.metrics import QueryMetrics, query_metrics, recall_metrics, retrieval_metrics
from dml.retrieval.ranking import Ranking, rank_positives

__all__ = [
    "Neighbours",
    "QueryMetrics",
    "Ranking",
    "clustering_metrics",
    "nearest",
    "query_metrics",
    "rank_positives",
    "recall_metrics",
    "retrieval_metrics",
]
