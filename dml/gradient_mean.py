"""The mean of a gradient over processes, added up in the order of ranks.

DDP lays out its gradients anew after a run's first step, and gloo adds in an order that hangs on a number's place in
the layout. A run that goes on has one more first step than a run that never stopped, so on three processes or more
their last bits would differ (on two, a + b is b + a). In the order of ranks the place does not matter.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from dml.distributed import world_size


def add_in_order_of_ranks(model: nn.Module | None) -> None:
    """Have DDP take its means on the CPU with `mean_in_order_of_ranks`; to be called before the first backward.

    Anything but DDP over several CPU processes is left as it is. On GPUs a run is not the same to the last bit anyway.
    """
    if isinstance(model, DistributedDataParallel) and model.device.type == "cpu" and world_size() > 1:
        model.register_comm_hook(None, _mean_of_bucket)


def _mean_of_bucket(state: None, bucket: dist.GradBucket) -> Future[Tensor]:
    done: Future[Tensor] = Future()
    done.set_result(mean_in_order_of_ranks(bucket.buffer()))
    return done


def mean_in_order_of_ranks(own: Tensor) -> Tensor:
    """(((g₀ + g₁) + g₂) + …) / W for each number of `own` (n,), of which every process has its own; the same on each.

    Each process adds up one W-th of the numbers, so that no more is sent than by an ordinary all-reduce.
    """
    size = world_size()
    length = -(-len(own) // size)
    filled = F.pad(own, (0, size * length - len(own)))
    theirs = torch.empty_like(filled)
    dist.all_to_all_single(theirs, filled)
    # Not sum(0), whose order may hang on the place too.
    total, *others = theirs.view(size, length)
    for other in others:
        total += other
    dist.all_gather_into_tensor(filled, total / size)
    return filled[: len(own)]
