"""Worlds of a few processes on this machine, joined by gloo.

They meet in a file, not at a port, which another test could take first.
They are forked from a server that has imported everything and computed nothing: imports take longer than tests.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Not FAISS, whose threads must not start in a process that goes on to fork.
IMPORTED = ("pytest", "sklearn.datasets", "sklearn.metrics", "dml.runs.evaluation", "dml.runs.training")


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
    multiprocessing.set_forkserver_preload([*IMPORTED, work.__module__])
    # Python 3.11 forgets where the server is to import from, and passes over what it does not find there.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as meeting:
        mp.start_processes(
            _enter, (work, size, meeting, folder, arguments), nprocs=size, start_method="forkserver"
        )
    return [torch.load(folder / f"result_{rank}.pt", weights_only=False) for rank in range(size)]
