"""Recall@K and its kin, logged whenever a network is validated or tested."""

import warnings
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor

from dml.data.datamodule import data_of
from dml.data.protocol import EvaluationSet
from dml.distributed import rank, sum_over_processes, world_size
from dml.module import EmbeddingModule
from dml.retrieval.clustering import clustering_metrics
from dml.retrieval.metrics import RetrievalSums, retrieval_sums
from dml.retrieval.ranking import rank_positives
from dml.retrieval.recall import recall_sums


def evaluate_embeddings(
    z_ND: Float[Tensor, "N D"], evaluation: EvaluationSet, ks: Sequence[int], only_recall: bool = False
) -> dict[str, float]:
    """The retrieval metrics of an evaluation set's embeddings, (N, D) in its order, the same on every process.

    Each process ranks its share of the queries against the whole gallery; every process must call. Recall@K is the
    same to the last digit either way: alone it comes from FAISS's lists, with the others from whole rows.
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
    sums = recall_sums(*arguments, ks) if only_recall else retrieval_sums(rank_positives(*arguments), ks)
    return RetrievalSums(sums.names, sum_over_processes(sums.totals.to(z_ND.device))).means()


class RetrievalMetrics(pl.Callback):
    """Logs `val/recall_at_K` while training, and `test/` with MAP@R, R-precision, NMI and AMI after it.

    Args:
        ks: the K of Recall@K.
        nmi: whether to cluster the test embeddings as well; takes longer than the rest on large sets.
    """

    def __init__(self, ks: Sequence[int], nmi: bool = True) -> None:
        self.ks, self.nmi = ks, nmi
        # The figures are the same on every process already; averaging them could change the last digit.
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, pl_module, "test")

    def _log(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        assert isinstance(module, EmbeddingModule)
        evaluation = data_of(trainer).evaluation_set(stage)
        z_ND = module.evaluated.ordered(len(evaluation.samples))
        metrics = evaluate_embeddings(z_ND, evaluation, self.ks, only_recall=stage == "val")
        if stage == "test" and self.nmi:
            metrics |= clustering_metrics(z_ND, torch.from_numpy(evaluation.labels))
        # Logged on every process: checkpoints and early stopping decide by these figures on each of them.
        first = f"{stage}/recall_at_{self.ks[0]}"
        for name, value in metrics.items():
            key = f"{stage}/{name}"
            exact = torch.tensor(value, dtype=torch.float64)  # a float would be stored in half its digits
            module.log(key, exact, prog_bar=key == first, batch_size=1, rank_zero_only=False)
