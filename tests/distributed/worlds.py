"""Worlds of a few processes on this machine, joined by gloo.

They are forked from a server that has imported everything and computed nothing: imports take longer than tests.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _enter(rank: int, work: Callable[..., Any], size: int, port: int, folder: Path, arguments: tuple) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "WANDB_MODE": "offline",
    }
    torch.set_num_threads(1)
    torch.save(work(folder, *arguments), folder / f"result_{rank}.pt")


def in_world(size: int, folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(folder, *arguments)` returns on each of `size` processes; it must be a module's own function."""
    folder.mkdir(parents=True, exist_ok=True)
    multiprocessing.set_forkserver_preload(["torch", "pytorch_lightning", "dml.train", work.__module__])
    mp.start_processes(
        _enter, (work, size, free_port(), folder, arguments), nprocs=size, start_method="forkserver"
    )
    return [torch.load(folder / f"result_{rank}.pt", weights_only=False) for rank in range(size)]
