"""Baselines: raw pixels and the untrained network."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dml.data.datamodule import EmbeddingDataModule
from dml.models.preprocessing import in_unit_range
from dml.retrieval.evaluate import EmbeddingStore, evaluate_embeddings
from dml.retrieval.metrics import Metric, QueryMetrics


class RawPixels(nn.Module):
    """The image itself as its embedding, L2-normalised."""

    def forward(self, image: Float[Tensor, "B C H W"] | UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return F.normalize(in_unit_range(image).flatten(1), dim=1)


@torch.no_grad()
def test_metrics(
    embedder: nn.Module, data: EmbeddingDataModule, ks: Sequence[int], metrics: Mapping[str, Metric]
) -> QueryMetrics:
    """Recall@K and other metrics of the test set under an embedder, in one process; the global RNG stays as it was."""
    store = EmbeddingStore()
    was_training = embedder.training
    embedder.eval()
    with torch.random.fork_rng(devices=[]):
        for batch in data.test_dataloader():
            store.add(batch["index"], embedder(batch["image"]))
    embedder.train(was_training)
    evaluation = data.evaluation_set("test")
    return evaluate_embeddings(store.ordered(len(evaluation.samples)), evaluation, ks, metrics)


def baselines(
    embedder: nn.Module, data: EmbeddingDataModule, ks: Sequence[int], metrics: Mapping[str, Metric]
) -> dict[str, QueryMetrics]:
    """Test metrics of raw pixels and of the network as it is now."""
    return {
        "raw pixels": test_metrics(RawPixels(), data, ks, metrics),
        "untrained": test_metrics(embedder, data, ks, metrics),
    }
