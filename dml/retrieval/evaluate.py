"""From the embeddings of an evaluation set, spread over all processes, to its metrics."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dml.data.protocol import EvaluationSet
from dml.distributed import gather, rank, world_size
from dml.retrieval.metrics import METRICS, Metric, QueryMetrics, query_metrics, recall_metrics
from dml.retrieval.ranking import Ranking, rank_positives
from dml.retrieval.recall import recall_in_lists


def in_order(
    index: Int[Tensor, "m"], rows: Shaped[Tensor, "m *dims"], size: int
) -> Shaped[Tensor, "N *dims"]:
    """The rows of all processes by their index, N = `size`, the same on every process; every process must call.

    Args:
        index: (m,) place of each row of this process; rows of one place are copies and count once.
        rows: (m, …).

    Raises:
        RuntimeError: not every place of 0 … N − 1 is there, or one is outside.
    """
    index, rows = gather(index), gather(rows)
    present = torch.unique(index)
    if len(present) != size or present[0] != 0 or present[-1] != size - 1:
        raise RuntimeError(
            f"{len(present)} of {size} images were evaluated; every one must be, exactly once."
        )
    ordered = rows.new_empty(size, *rows.shape[1:])
    ordered[index] = rows
    return ordered


class EmbeddingStore:
    """Collects the embeddings of an evaluation set, batch by batch in any order."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything collected."""
        self._indices: list[Tensor] = []
        self._embeddings: list[Tensor] = []

    def add(self, index: Int[Tensor, "B"], embedding: Float[Tensor, "B D"]) -> None:
        """Keep a batch: positions in the evaluation set, (B,), and embeddings, (B, D), as float32."""
        self._indices.append(index)
        self._embeddings.append(embedding.float())

    def ordered(self, size: int) -> Float[Tensor, "N D"]:
        """All `size` embeddings, (N, D), row n that of image n; as `in_order`. Nothing stays in the store."""
        index, embedding = torch.cat(self._indices), torch.cat(self._embeddings)
        self.clear()
        return in_order(index, embedding, size)


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
    if metrics:
        return query_metrics(rank_queries(z_ND, evaluation), recall_metrics(ks) | dict(metrics))
    own = recall_in_lists(*_shares(z_ND, evaluation), ks)
    everyone = _of_all_queries(z_ND, evaluation)
    values = {name: everyone(value_q) for name, value_q in own.values.items()}
    return QueryMetrics(everyone(own.has_positive), values)


def rank_queries(z_ND: Float[Tensor, "N D"], evaluation: EvaluationSet) -> Ranking:
    """Ranking of every query, in their order; the same on every process, and every process must call.

    `right_index` and `wrong_index` are positions in the evaluation set.

    Args:
        z_ND, evaluation: as in `evaluate_embeddings`.
    """
    own = rank_positives(*_shares(z_ND, evaluation))
    ranking = Ranking(*map(_of_all_queries(z_ND, evaluation), own))
    gallery_G = torch.from_numpy(evaluation.searched_index)
    return ranking._replace(
        right_index=gallery_G[ranking.right_index], wrong_index=gallery_G[ranking.wrong_index]
    )


def _shares(z_ND: Tensor, evaluation: EvaluationSet) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """This process's queries and their labels, the gallery and its labels, and the queries' places in the gallery."""
    labels_N = torch.from_numpy(evaluation.labels).to(z_ND.device)
    query_Q = torch.from_numpy(evaluation.query_index).to(z_ND.device)
    gallery_G = torch.from_numpy(evaluation.searched_index).to(z_ND.device)
    own_q = torch.arange(len(query_Q), device=z_ND.device)[rank() :: world_size()]
    share = z_ND[query_Q[own_q]], labels_N[query_Q[own_q]], z_ND[gallery_G], labels_N[gallery_G]
    return *share, own_q if evaluation.gallery_index is None else None


def _of_all_queries(z_ND: Tensor, evaluation: EvaluationSet) -> Callable[[Tensor], Tensor]:
    """A function from the values of this process's queries to those of all, (Q,) on the CPU."""
    size = len(evaluation.query_index)
    # Values are on the CPU; processes exchange tensors where the embeddings are.
    own_q = torch.arange(size, device=z_ND.device)[rank() :: world_size()]

    def of_all(value_q: Tensor) -> Tensor:
        return value_q if world_size() == 1 else in_order(own_q, value_q.to(z_ND.device), size).cpu()

    return of_all
