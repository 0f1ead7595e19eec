"""Metrics of an evaluation set, its queries shared out to all processes."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dml.data.protocol import EvaluationSet
from dml.distributed import gather, rank, world_size
from dml.retrieval.metrics import METRICS, Metric, QueryMetrics, query_metrics, recall_metrics
from dml.retrieval.ranking import rank_positives
from dml.retrieval.recall import recall_in_lists


def evaluate_embeddings(
    z_ND: Float[Tensor, "N D"],
    evaluation: EvaluationSet,
    ks: Sequence[int],
    metrics: Mapping[str, Metric] = METRICS,
) -> QueryMetrics:
    """Recall@K and other metrics of every query, in the order of the queries; the same on every process.

    Each process ranks a share of the queries against the whole gallery; every process must call. Recall@K alone comes
    from FAISS's lists, with other metrics from whole rows; it is the same to the last digit.

    Args:
        z_ND: (N, D), embeddings of all images of the set, in its order.
        evaluation: which of them are queries and gallery, and their classes.
        ks: the K of Recall@K.
        metrics: further metrics by name.
    """
    labels_N = torch.from_numpy(evaluation.labels).to(z_ND.device)
    query_Q = torch.from_numpy(evaluation.query_index).to(z_ND.device)
    gallery = evaluation.gallery_index
    gallery_G = query_Q if gallery is None else torch.from_numpy(gallery).to(z_ND.device)
    self_index = torch.arange(len(query_Q), device=z_ND.device) if gallery is None else None
    share = slice(rank(), None, world_size())
    arguments = (
        z_ND[query_Q[share]],
        labels_N[query_Q[share]],
        z_ND[gallery_G],
        labels_N[gallery_G],
        None if self_index is None else self_index[share],
    )
    if metrics:
        own = query_metrics(rank_positives(*arguments), recall_metrics(ks) | dict(metrics))
    else:
        own = recall_in_lists(*arguments, ks)
    values = {name: all_queries(value, z_ND.device) for name, value in own.values.items()}
    return QueryMetrics(all_queries(own.has_positive, z_ND.device), values)


def all_queries(own: Shaped[Tensor, "q"], device: torch.device) -> Shaped[Tensor, "Q"]:
    """Values of all queries, in their order, on the CPU.

    Args:
        own: (q,), on the CPU, values of this process's queries: rank, rank + W, rank + 2W, …
        device: where processes exchange tensors.
    """
    if world_size() == 1:
        return own
    everyone_Q = gather(own.to(device)).cpu()
    queries = torch.arange(len(everyone_Q))
    return everyone_Q[torch.cat([queries[r :: world_size()] for r in range(world_size())]).argsort()]
