import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dml.errors import UserError


class CrossBatchMemory(nn.Module):
    """A ring buffer of the latest embeddings, which anchors are compared with in addition to their batch.

    Source: Wang, Zhang, Huang, Scott: Cross-Batch Memory for Embedding Learning, CVPR 2020.

    Deviations from the authors' code: it stores the batch first and then compares it with the whole memory, so every
    anchor is compared with its own copy. Here a batch is compared with itself and with earlier batches, and is
    stored afterwards. Their loss on the memory is a separate term added to the loss on the batch. Here batch and
    memory form one row, so mining and weighting use all references together. As in their code, an earlier embedding
    of the anchor's own image counts as a positive.

    The content is part of the checkpoint. Every process keeps the same memory, that of the global batch.

    Args:
        size: M ≥ 1, number of embeddings kept; up to the whole training set in the paper.
        start: when the memory starts; embeddings drift too fast before. From 0 to below 1, a share of `max_steps`; a
            whole number, a step. The authors' code starts at step 1,000 of 35,000, 3%.
        embedding_dim: D.
        max_steps: steps of the whole run.

    Raises:
        UserError: `size` or `start` is out of range, or the run ends before the memory is used.
    """

    def __init__(self, size: int, start: float, embedding_dim: int, max_steps: int) -> None:
        super().__init__()
        if size < 1 or start < 0 or (start >= 1 and start != int(start)):
            raise UserError(
                f"memory.size={size} must be at least 1, and memory.start={start} a share of the run from 0 to below 1 "
                "or a whole number of steps."
            )
        self.size = size
        self.start = int(start * max_steps) if start < 1 else int(start)
        # Step `start` stores the first batch; the step after it is the first to use the memory.
        if self.start + 1 >= max_steps:
            raise UserError(
                f"memory.start={start} is step {self.start} of {max_steps}, so the memory would never be "
                "used: lower memory.start or raise trainer.max_steps."
            )
        self.embeddings = nn.Buffer(torch.zeros(size, embedding_dim))
        self.labels = nn.Buffer(torch.zeros(size, dtype=torch.int64))
        self.seen = nn.Buffer(torch.tensor(0))  # batches so far
        self.stored = nn.Buffer(torch.tensor(0))  # embeddings since `start`, including those overwritten

    def references(
        self, embeddings: Float[Tensor, "B D"], labels: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "R D"], Int[Tensor, "R"]]:
        """Embeddings and labels of the batch, followed by those in memory; only the batch has a gradient."""
        filled = min(int(self.stored), self.size)
        if filled == 0:
            return embeddings, labels
        remembered_MD = self.embeddings[:filled].to(embeddings.dtype)
        return torch.cat([embeddings, remembered_MD]), torch.cat([labels, self.labels[:filled]])

    @torch.no_grad()
    def add(self, embeddings: Float[Tensor, "B D"], labels: Int[Tensor, "B"]) -> None:
        """Store a batch in place of the oldest embeddings; of a batch larger than M, its last M embeddings."""
        self.seen.add_(1)
        if self.seen <= self.start:
            return
        kept_BD = F.normalize(embeddings.detach().to(self.embeddings.dtype))
        z_BD, label_B = kept_BD[-self.size :], labels[-self.size :]
        slot_B = (self.stored + torch.arange(len(label_B), device=label_B.device)) % self.size
        self.embeddings[slot_B], self.labels[slot_B] = z_BD, label_B
        self.stored.add_(len(label_B))
