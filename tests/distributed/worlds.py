"""Worlds of a few processes on this machine, joined by gloo.

They meet in a file, not at a port, which another test could take first.
They are forked from a server that has imported everything and computed nothing: imports take longer than tests.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _enter(
    rank: int, work: Callable[..., Any], size: int, meeting: str, folder: Path, arguments: tuple
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "WANDB_MODE": "offline",
    }
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}/store", rank=rank, world_size=size)
    torch.save(work(folder, *arguments), folder / f"result_{rank}.pt")


def in_world(size: int, folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(folder, *arguments)` returns on each of `size` processes; it must be a module's own function."""
    folder.mkdir(parents=True, exist_ok=True)
    multiprocessing.set_forkserver_preload(["torch", "pytorch_lightning", "dml.train", work.__module__])
    with tempfile.TemporaryDirectory() as meeting:
        mp.start_processes(
            _enter, (work, size, meeting, folder, arguments), nprocs=size, start_method="forkserver"
        )
    return [torch.load(folder / f"result_{rank}.pt", weights_only=False) for rank in range(size)]
