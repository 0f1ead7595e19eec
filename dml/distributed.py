"""Collectives for several processes that train on one batch, with gradients where the loss needs them.

Without a process group every function here is the identity.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.nn import functional as F


def world_size() -> int:
    """W, number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Rank of this process, 0 … W−1."""
    return dist.get_rank() if world_size() > 1 else 0


def is_first_process() -> bool:
    """Whether this process has rank 0, and so writes files and messages; works without a process group too."""
    return getattr(rank_zero_only, "rank", 0) == 0


def share_sizes(rows: int, device: torch.device) -> list[int]:
    """Number of rows of each process, in the order of ranks; every process must call."""
    sizes = [torch.empty(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([rows], device=device))
    return torch.cat(sizes).tolist()


def gather_sized(rows: Shaped[Tensor, "r *dims"], sizes: list[int]) -> Shaped[Tensor, "n *dims"]:
    """The rows of all processes in the order of ranks, without gradient; process k has `sizes[k]` of them."""
    largest = max(sizes)  # the collective needs equal sizes: shares are padded, then cut
    filled = F.pad(rows.detach(), [0, 0] * (rows.ndim - 1) + [0, largest - len(rows)]).contiguous()
    parts = [torch.empty_like(filled) for _ in sizes]
    dist.all_gather(parts, filled)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def gather(rows: Shaped[Tensor, "r *dims"]) -> Shaped[Tensor, "n *dims"]:
    """The rows of all processes in the order of ranks, without gradient; their numbers may differ."""
    return rows if world_size() == 1 else gather_sized(rows, share_sizes(len(rows), rows.device))


class GatherWithGradient(torch.autograd.Function):
    """`gather_sized` with a gradient: backward sums the gradients that all processes have for a process's rows."""

    @staticmethod
    def forward(ctx: Any, rows_rD: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return gather_sized(rows_rD, sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed_ND = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed_ND)
        return summed_ND.split(ctx.sizes)[rank()], None


class GlobalBatch(NamedTuple):
    """The batch of all processes, seen from one of them: its own rows are the anchors, all rows the references.

    Attributes:
        embeddings: (R, D), in the order of ranks, with gradient.
        labels: (R,) their classes.
        self_index: (B,) position of each of this process's own images among the references.
        weight: W·B/R, factor on the mean loss over this process's anchors. The mean over processes, of losses and of
            gradients, is then the mean over all anchors, even if the shares differ in size.
    """

    embeddings: Float[Tensor, "R D"]
    labels: Int[Tensor, "R"]
    self_index: Int[Tensor, "B"]
    weight: float


def global_batch(
    embeddings: Float[Tensor, "B D"], labels: Int[Tensor, "B"], local: bool = False
) -> GlobalBatch:
    """All processes' shares of the batch, gathered with gradient; every process must call.

    Args:
        embeddings: (B, D) of this process's share; shares may differ in size.
        labels: (B,) their classes.
        local: gather nothing, as if there were no other process. Common in the field; for comparison.
    """
    own_B = torch.arange(len(labels), device=labels.device)
    if local or world_size() == 1:
        return GlobalBatch(embeddings, labels, own_B, 1.0)
    sizes = share_sizes(len(labels), labels.device)
    everyone_RD = GatherWithGradient.apply(embeddings, sizes)
    weight = len(sizes) * len(labels) / sum(sizes)
    return GlobalBatch(everyone_RD, gather_sized(labels, sizes), own_B + sum(sizes[: rank()]), weight)


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a value over the processes, the same on each, without gradient."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


@torch.no_grad()
def share_buffers(module: nn.Module) -> None:
    """Copy the first process's buffers to all others.

    Running statistics of a batch norm that is not frozen differ between processes. Before they evaluate together, the
    network must be the same on each, and the same as in the checkpoint.
    """
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def gather_objects(item: Any) -> list[Any]:
    """Each process's item, in the order of ranks."""
    items = [item] * world_size()
    if len(items) > 1:
        dist.all_gather_object(items, item)
    return items
