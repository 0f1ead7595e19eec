"""Time and traffic of a loss on 1, 2 and 4 processes, beside pytorch-metric-learning's distributed wrapper.

    python scripts/benchmark_distributed.py [batch] [dimension]

Forward and backward of the loss alone, both in turn, round after round; figures are those of the process that has most.
All processes share this machine's cores (gloo, one thread each), so the time on the clock is to be compared within a
row; the work, which is the processor time of a process's own thread, also from row to row.
"""

import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.utils import distributed
from torch import Tensor

from dml.distributed import global_batch
from dml.losses import MultiSimilarityLoss

ROUNDS, WARM_UP, IMAGES_PER_CLASS = 8, 2, 4
Loss = Callable[[Tensor, Tensor], Tensor]


class Traffic:
    """Counts the bytes that this process puts into collectives."""

    def __init__(self) -> None:
        self.bytes = 0

    def watch(self) -> None:
        for name in ("all_gather", "all_reduce", "all_gather_into_tensor"):
            setattr(dist, name, self._counted(getattr(dist, name), own=1 if "gather" in name else 0))

    def _counted(self, collective: Callable[..., Any], own: int) -> Callable[..., Any]:
        def counted(*tensors: Any, **options: Any) -> Any:
            self.bytes += tensors[own].numel() * tensors[own].element_size()
            return collective(*tensors, **options)

        return counted


def ours() -> Loss:
    loss = MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1)

    def value(z_BD: Tensor, label_B: Tensor) -> Tensor:
        *references, weight = global_batch(z_BD, label_B)
        return loss(z_BD, label_B, *references) * weight

    return value


def theirs() -> Loss:
    loss = distributed.DistributedLossWrapper(losses.MultiSimilarityLoss(2.0, 40.0, 0.5))
    miner = distributed.DistributedMinerWrapper(miners.MultiSimilarityMiner(0.1))
    return lambda z_BD, label_B: loss(z_BD, label_B, miner(z_BD, label_B))


def measure(rank: int, size: int, port: int, batch: int, dim: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    traffic = Traffic()
    dist.init_process_group("gloo", rank=rank, world_size=size)
    traffic.watch()
    torch.manual_seed(0)
    z_ND = torch.nn.functional.normalize(torch.randn(batch, dim))
    label_N = torch.arange(batch) // IMAGES_PER_CLASS
    z_BD, label_B = z_ND.tensor_split(size)[rank], label_N.tensor_split(size)[rank]
    found = []
    for loss in (ours(), theirs()):
        times, works = [], []
        for _ in range(ROUNDS):
            leaf = z_BD.clone().requires_grad_()
            dist.barrier()
            traffic.bytes, start, worked = 0, time.perf_counter(), time.thread_time()
            loss(leaf, label_B).backward()
            works.append(time.thread_time() - worked)
            times.append(time.perf_counter() - start)
        found += [statistics.median(times[WARM_UP:]), statistics.median(works[WARM_UP:]), traffic.bytes]
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    batch, dim = (*map(int, sys.argv[1:]), *(512, 128)[len(sys.argv) - 1 :])
    print(f"multi-similarity loss, batch {batch} × {dim}, torch {torch.__version__}, {os.cpu_count()} cores")
    columns = "ms a step  ms of work  KB sent"
    print(f" W  dml: {columns}   pytorch-metric-learning: {columns}")
    for size in (1, 2, 4):
        with TemporaryDirectory() as folder:
            mp.spawn(measure, (size, free_port(), batch, dim, folder), nprocs=size)
            rows = torch.tensor([torch.load(Path(folder) / f"{rank}.pt") for rank in range(size)])
        (time_, work, sent), theirs = rows.amax(dim=0).view(2, 3).tolist()
        print(f"{size:2d}{time_ * 1e3:15.1f}{work * 1e3:12.1f}{sent / 1e3:9.0f}", end="")
        print(f"{theirs[0] * 1e3:37.1f}{theirs[1] * 1e3:12.1f}{theirs[2] / 1e3:9.0f}")


if __name__ == "__main__":
    main()
