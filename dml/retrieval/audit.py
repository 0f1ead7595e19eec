"""Recall@K and NMI of the same embeddings under other conventions of the field, and why they differ."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dml.data.protocol import EvaluationSet
from dml.retrieval.clustering import agreement, clustering_metrics
from dml.retrieval.index import nearest
from dml.retrieval.ranking import Ranking
from dml.retrieval.similarity import as_embeddings, similarity_blocks

Column = dict[str, float]
WHY = {
    "first column dropped": "The list of K + 1 nearest loses its first entry, on the assumption that it is the query. "
    "Where another image has the same embedding it may come first; the query then stays in its own list, as a hit.",
    "ties for the query": "An image of another class that is exactly as similar as the most similar right one does not "
    "count as ahead of it. A network that maps all images to one point then scores 1.",
    "singletons counted": "A query whose class has no other image counts as a miss, so no model can reach 1.",
    "k-means once": "NMI and AMI of one start of k-means depend on that start, for better or worse; here the best of "
    "five by squared distances counts.",
}


@torch.no_grad()
def audit(
    z_ND: Float[Tensor, "N D"],
    evaluation: EvaluationSet,
    ranking: Ranking,
    ks: Sequence[int],
    cluster_N: Int[np.ndarray, "N"] | None = None,
) -> dict[str, Column]:
    """Metrics by convention: "here", as this package computes them, and each of `WHY` that applies.

    "first column dropped" is left out where the gallery is a set of its own: there is nothing to drop.

    Args:
        z_ND: (N, D), embeddings of the whole set, on the CPU.
        evaluation: which of them are queries and gallery, and their classes.
        ranking: of its queries, as from `rank_queries`.
        ks: the K of Recall@K.
        cluster_N: (N,) clusters of `k_means`, as "here" has them; None leaves NMI and AMI out.
    """
    counted_Q, k_K = ranking.positives > 0, torch.tensor(ks)
    hit_QK = ranking.others_ahead[:, None] < k_K
    hit_or_tie_QK = _strictly_ahead(z_ND, evaluation, ranking)[:, None] < k_K
    columns = {
        "here": recall(hit_QK, counted_Q, ks),
        "first column dropped": _first_column_dropped(z_ND, evaluation, counted_Q, ks),
        "ties for the query": recall(hit_or_tie_QK, counted_Q, ks),
        "singletons counted": recall(hit_QK & counted_Q[:, None], torch.ones_like(counted_Q), ks),
    }
    if cluster_N is not None:
        columns["here"] |= agreement(evaluation.labels, cluster_N)
        columns["k-means once"] = clustering_metrics(z_ND, torch.from_numpy(evaluation.labels), starts=1)
    return {name: column for name, column in columns.items() if column}


def recall(hit_QK: Bool[Tensor, "Q K"], counted_Q: Bool[Tensor, "Q"], ks: Sequence[int]) -> Column:
    """Recall@K over the queries that count."""
    mean_K = hit_QK[counted_Q].double().mean(dim=0)
    return {f"recall_at_{k}": mean for k, mean in zip(ks, mean_K.tolist(), strict=True)}


def _first_column_dropped(
    z_ND: Tensor, evaluation: EvaluationSet, counted_Q: Tensor, ks: Sequence[int]
) -> Column:
    if evaluation.gallery_index is not None:
        return {}
    label_Q = torch.from_numpy(evaluation.query_labels)
    z_QD = z_ND[evaluation.query_index]
    listed_QK = nearest(z_QD, z_QD, max(ks) + 1).index_QK[:, 1:]
    right_QK = label_Q[listed_QK] == label_Q[:, None]
    return recall(torch.stack([right_QK[:, :k].any(dim=1) for k in ks], dim=1), counted_Q, ks)


def _strictly_ahead(z_ND: Tensor, evaluation: EvaluationSet, ranking: Ranking) -> Tensor:
    """Images of other classes that are more similar to each query than its most similar positive, (Q,)."""
    indices = evaluation.query_index, evaluation.searched_index
    query_QD, gallery_GD = (as_embeddings(z_ND[index], "test") for index in indices)
    label_Q, label_G = (torch.from_numpy(evaluation.labels[index]) for index in indices)
    place_N = torch.empty(len(z_ND), dtype=torch.long)
    place_N[torch.from_numpy(evaluation.searched_index)] = torch.arange(len(gallery_GD))
    place_Q1 = place_N[ranking.right_index][:, None]
    # Not `ranking.right_similarity`: a GPU's differs in the last bits, and ties would be lost.
    ahead = [
        ((S_BG.gather(1, place_Q1[block]) < S_BG) & (label_G != label_Q[block, None])).sum(dim=1)
        for block, S_BG in similarity_blocks(query_QD, gallery_GD)
    ]
    return torch.cat(ahead)
