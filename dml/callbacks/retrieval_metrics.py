"""Recall@K and other retrieval metrics, logged at every validation and test."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor

from dml.data.datamodule import data_of
from dml.errors import UserError
from dml.retrieval.clustering import agreement, k_means
from dml.retrieval.collapse import is_collapsed
from dml.retrieval.evaluate import EmbeddingStore, evaluate_embeddings, rank_queries
from dml.retrieval.metrics import METRICS, Metric, QueryMetrics, query_metrics, recall_metrics
from dml.retrieval.ranking import Ranking


class EmbeddingCollector(pl.Callback):
    """Collects in its `store` what the network returns for the batches of each validation and test."""

    def __init__(self) -> None:
        self.store = EmbeddingStore()

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.store.clear()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.store.add(batch["index"], outputs)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end


class RetrievalMetrics(EmbeddingCollector):
    """Logs `val/recall_at_K` in validation, and in the test `test/recall_at_K`, the other metrics, NMI and AMI.

    Other callbacks find the embeddings and each query's values here once the epoch has ended.

    Args:
        ks: the K of Recall@K.
        metrics: further metrics of the test by name, see `dml.retrieval.metrics`; None leaves one out.
        nmi: whether to cluster the test embeddings as well; takes longer than the rest on large sets.

    Attributes:
        embeddings: (N, D) of the latest evaluation set, in its order, the same on every process.
        queries: values of its queries.
        ranking: ranks of its queries, of the test only; positions in the evaluation set.
        clusters: (N,) of its images by k-means, of the test only and with `nmi`; else None.
    """

    embeddings: Float[Tensor, "N D"]
    queries: QueryMetrics
    ranking: Ranking
    clusters: np.ndarray | None = None

    def __init__(
        self, ks: Sequence[int], metrics: Mapping[str, Metric | None] | None = METRICS, nmi: bool = True
    ) -> None:
        super().__init__()
        self.ks, self.nmi = ks, nmi
        self.metrics = {name: metric for name, metric in (metrics or {}).items() if metric is not None}
        # The figures are the same on every process already; averaging them could change the last digit.
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        evaluation = data_of(trainer).evaluation_set("val")
        self.embeddings = self.store.ordered(len(evaluation.samples))
        self.queries = evaluate_embeddings(self.embeddings, evaluation, self.ks, {})
        self._log(pl_module, "val", self.queries.means())

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        evaluation = data_of(trainer).evaluation_set("test")
        self.embeddings = self.store.ordered(len(evaluation.samples))
        self.ranking = rank_queries(self.embeddings, evaluation)
        self.queries = query_metrics(self.ranking, recall_metrics(self.ks) | self.metrics)
        figures = self.queries.means()
        if self.nmi:
            self.clusters = k_means(self.embeddings, len(np.unique(evaluation.labels))).numpy()
            figures |= agreement(evaluation.labels, self.clusters)
        self._log(pl_module, "test", figures)

    def collapse(self) -> dict[str, bool]:
        """`{"collapsed": True}` if the latest embeddings are, see `is_collapsed`; `{}` otherwise."""
        return {"collapsed": True} if is_collapsed(self.embeddings) else {}

    def _log(self, module: pl.LightningModule, stage: str, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            # Lightning would store a float with half its digits. It leaves a CPU tensor where it is, so no float64
            # gets to an MPS device. Every process logs: checkpoints and early stopping decide on each of them.
            exact = torch.tensor(value, dtype=torch.float64, device="cpu")
            module.log(f"{stage}/{name}", exact, prog_bar=name == f"recall_at_{self.ks[0]}", batch_size=1)


def retrieval_metrics_of(trainer: pl.Trainer) -> RetrievalMetrics:
    """The trainer's `RetrievalMetrics`, which others read embeddings and values from; it must have one."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RetrievalMetrics):
            return callback
    raise UserError("callbacks.recall measures what a run reports: keep it.")
