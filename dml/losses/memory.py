"""Cross-batch memory: embeddings of past batches as further references."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dml.errors import UserError


class CrossBatchMemory(nn.Module):
    """The latest embeddings of past batches, a ring that anchors are compared with beside their own batch.

    Source: Wang, Zhang, Huang, Scott: Cross-Batch Memory for Embedding Learning, CVPR 2020.

    Deviations from the authors' code: there the batch is put into the memory first and then compared with all of
    it, so that every anchor meets its own copy; here a batch is compared with itself and with the slots filled
    before it, and enters afterwards. There the loss of the memory is a term of its own added to that of the batch;
    here both are one row, in which mining and weighting see all references at once. As there, an earlier embedding
    of an anchor's image counts as a positive.

    The content is part of the checkpoint. On several processes each keeps the same memory, of the global batch.

    Args:
        size: M ≥ 1, embeddings kept; the paper has up to the whole training set.
        start: when batches begin to be kept and compared with, once embeddings have stopped drifting fast. Below 1, a
            share of `max_steps`; a whole number, a step. The authors' code begins at step 1,000 of 35,000, 3%.
        embedding_dim: D.
        max_steps: steps of the whole run.

    Raises:
        UserError: `size` or `start` is out of range, or the run ends before the memory is used.
    """

    embeddings: Tensor
    labels: Tensor
    seen: Tensor
    stored: Tensor

    def __init__(self, size: int, start: float, embedding_dim: int, max_steps: int) -> None:
        super().__init__()
        if size < 1 or start < 0 or (start >= 1 and start != int(start)):
            raise UserError(
                f"memory.size={size} must be at least 1, and memory.start={start} a share of the run from 0 to below 1 "
                "or a whole number of steps."
            )
        self.size = size
        self.start = int(start * max_steps) if start < 1 else int(start)
        # The batch of step `start` is the first to be kept, that of the step after it the first to meet one.
        if self.start + 1 >= max_steps:
            raise UserError(
                f"memory.start={start} is step {self.start} and the run has {max_steps}, so the memory would never be "
                "used: lower memory.start or raise trainer.max_steps."
            )
        self.register_buffer("embeddings", torch.zeros(size, embedding_dim))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("seen", torch.tensor(0))  # batches
        # Embeddings since the start, those overwritten included.
        self.register_buffer("stored", torch.tensor(0))

    def references(
        self, embeddings: Float[Tensor, "B D"], labels: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "R D"], Int[Tensor, "R"]]:
        """The batch's embeddings and labels followed by those of the filled slots; the batch keeps its gradient."""
        filled = min(int(self.stored), self.size)
        if filled == 0:
            return embeddings, labels
        remembered_MD = self.embeddings[:filled].to(embeddings.dtype)
        return torch.cat([embeddings, remembered_MD]), torch.cat([labels, self.labels[:filled]])

    @torch.no_grad()
    def add(self, embeddings: Float[Tensor, "B D"], labels: Int[Tensor, "B"]) -> None:
        """Keep a batch over the oldest slots; of a batch larger than the memory, its last M embeddings."""
        self.seen += 1
        if self.seen <= self.start:
            return
        kept_BD = F.normalize(embeddings.detach().to(self.embeddings.dtype))
        z_BD, label_B = kept_BD[-self.size :], labels[-self.size :]
        slot_B = (self.stored + torch.arange(len(label_B), device=label_B.device)) % self.size
        self.embeddings[slot_B], self.labels[slot_B] = z_BD, label_B
        self.stored += len(label_B)
