"""Statistics of the loss's pairs while training: how many have a weight, how evenly it is shared out, collapse."""

from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float, Int
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from dml.losses import PairLoss, Pairs, label_pairs, pair_weights
from dml.losses.similarity import cosine_similarity, normalize

BINS = 40


class PairStatistics(pl.Callback):
    """Logs `pairs/…` (see `similarity_statistics` and `weight_statistics`) from the training batch every n steps.

    The batch of this process is compared with itself, without the references of a memory or of other processes. A
    loss that compares images with proxies has no pair weights, so only similarities are logged. A collapse of the
    embedding is warned of once. The callback does not change training.

    Args:
        every_n_steps: n, a multiple of the trainer's `log_every_n_steps`: other steps are not written.
        anchors: the most images of a batch to take as anchors; bounds memory in very large batches.
        collapsed_below: effective dimension below which the embedding counts as collapsed, above 1.
    """

    def __init__(self, every_n_steps: int, anchors: int = 256, collapsed_below: float = 1.02) -> None:
        self.every_n_steps, self.anchors, self.collapsed_below = every_n_steps, anchors, collapsed_below
        self.warned = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *index: int
    ) -> None:
        if trainer.global_step % self.every_n_steps != 0:
            return
        statistics = pair_statistics(pl_module.loss, outputs["embedding"], batch["label"], self.anchors)  # type: ignore[arg-type]
        pl_module.log_dict({f"pairs/{name}": value for name, value in statistics.items()})
        if not self.warned and statistics["effective_dimension"] < self.collapsed_below:
            self.warned = True
            rank_zero_warn(
                f"THE EMBEDDING HAS COLLAPSED at step {trainer.global_step}: images of different classes have a mean "
                f"similarity of {statistics['negative_similarity']:.3f}, so neighbours mean nothing. Lower "
                "optimizer.lr, or try a loss or mining that puts less weight on the hardest pairs."
            )


@torch.no_grad()
def pair_statistics(
    loss: PairLoss, z: Float[Tensor, "B D"], labels: Int[Tensor, "B"], anchors: int = 256
) -> dict[str, Float[Tensor, ""]]:
    """All statistics of a batch, from the rows of its first `anchors` images."""
    z_BD, _ = normalize(z)
    self_index_Q = torch.arange(min(len(z_BD), anchors), device=z_BD.device)
    S_QB = cosine_similarity(z_BD[self_index_Q], z_BD)
    pairs = label_pairs(labels[self_index_Q], labels, self_index_Q)
    statistics = similarity_statistics(S_QB, pairs)
    statistics["resultant_length"] = z_BD.mean(dim=0).norm()
    # A row of a loss with proxies does not hold similarities of images.
    if type(loss).forward is not PairLoss.forward:
        return statistics
    # Random mining must not advance the generator that training draws from.
    with torch.random.fork_rng(devices=[z_BD.device] if z_BD.is_cuda else []):
        w_QB = pair_weights(loss, S_QB, pairs)
    return statistics | weight_statistics(w_QB, pairs)


def similarity_statistics(similarity: Float[Tensor, "Q R"], pairs: Pairs) -> dict[str, Float[Tensor, ""]]:
    """How similarities are distributed.

    - `positive_similarity`, `negative_similarity`: means.
    - `overlap`: common area of the two histograms, 0 where no positive is as similar as any negative, 1 where they
      cannot be told apart.
    - `effective_dimension`: 1 / mean S², the participation ratio of the Gram matrix's eigenvalues, from 1 (all
      embeddings on a line through the origin: collapse) to the lesser of B and D (spread evenly).
    """
    histograms = [histogram(similarity, mask) for mask in (pairs.positive, pairs.negative)]
    return {
        "positive_similarity": mean_of(similarity, pairs.positive),
        "negative_similarity": mean_of(similarity, pairs.negative),
        "overlap": torch.minimum(*histograms).sum(),
        "effective_dimension": 1 / similarity.square().mean(),
    }


def weight_statistics(weights: Float[Tensor, "Q R"], pairs: Pairs) -> dict[str, Float[Tensor, ""]]:
    """How many pairs have a weight and how evenly it is shared out.

    - `anchor_share`: share of anchors with a pair of nonzero weight.
    - `positive_share`, `negative_share`: share of positives and of negatives with a nonzero weight.
    - `positive_entropy`, `negative_entropy`: entropy of the batch's weights of a kind over the logarithm of the number
      of such pairs, from 0 (one pair has all the weight) to 1 (all pairs weigh alike).
    """
    statistics = {"anchor_share": (weights > 0).any(dim=1).float().mean()}
    for kind, mask in (("positive", pairs.positive), ("negative", pairs.negative)):
        statistics[f"{kind}_share"] = mean_of((weights > 0).float(), mask)
        statistics[f"{kind}_entropy"] = entropy(weights, mask)
    return statistics


def mean_of(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, ""]:
    """Mean over the mask; 0 for an empty one."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)


def histogram(similarity: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "bins"]:
    """Shares of the masked similarities in equal bins over [−1, 1]."""
    bin_N = ((similarity[mask] + 1) * (BINS / 2)).long().clamp(0, BINS - 1)
    count = torch.bincount(bin_N, minlength=BINS)
    return count / count.sum().clamp_min(1)


def entropy(weights: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, ""]:
    """Entropy of the masked weights as shares of their sum, over its largest possible value; 0 where all are zero."""
    w_QR = torch.where(mask, weights, 0.0)
    share_QR = w_QR / w_QR.sum().clamp_min(torch.finfo(w_QR.dtype).tiny)
    return torch.special.entr(share_QR).sum() / mask.sum().clamp_min(2).log()
