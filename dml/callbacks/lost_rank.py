"""Notices a process that was killed or hangs, says which, and stops the others."""

import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

BEAT = 1.0  # seconds


class Heartbeats(threading.Thread):
    """Counts up a number of its own in a store that all processes share, and watches the others' numbers.

    Args:
        store: shared by all processes; the first one hosts it.
        rank, size: this process and the number of them.
        silence: seconds after which a process whose number stands still counts as lost.
    """

    def __init__(self, store: dist.TCPStore, rank: int, size: int, silence: float) -> None:
        super().__init__(daemon=True, name="heartbeats")
        self.store, self.rank, self.others, self.silence = (
            store,
            rank,
            [r for r in range(size) if r != rank],
            silence,
        )
        self.changed = {other: (-1, time.monotonic()) for other in self.others}
        self.stopped, self.found = threading.Event(), threading.Event()
        self.lost: str | None = None
        store.set(f"who/{rank}", f"process {rank} (pid {os.getpid()} on {socket.gethostname()})")

    def run(self) -> None:
        while not self.stopped.wait(BEAT):
            try:
                self.store.add(f"beat/{self.rank}", 1)
                self.lost = next((self.name_of(r) for r in self.others if self.is_silent(r)), None)
            except Exception:  # the store is gone, and with it the first process
                self.lost = "process 0, which the others report to"
            if self.lost and not self.stopped.is_set():
                self.found.set()
                self.stopped.wait(10.0)  # the training thread may come to stop by itself
                break
        if self.lost and not self.stopped.is_set():
            print(f"Error: {sentence(self.lost)}", file=sys.stderr, flush=True)
            os._exit(1)  # it waits in a collective that nobody will ever join

    def is_silent(self, other: int) -> bool:
        number, now = self.store.add(f"beat/{other}", 0), time.monotonic()
        if number != self.changed[other][0]:
            self.changed[other] = (number, now)
        return bool(number >= 0 and now - self.changed[other][1] > self.silence)

    def name_of(self, other: int) -> str:
        return self.store.get(f"who/{other}").decode()


def sentence(lost: str) -> str:
    """What a person is told."""
    return (
        f"{lost} was lost: killed, failed or hanging. All others stop; the same command with resume=auto and the same "
        "run folder goes on from the last checkpoint."
    )


class LostRank(pl.Callback):
    """Stops a run within a minute when one of its processes is killed or hangs, and names that process.

    Without it the others would wait in their next collective, on GPUs for half an hour, or fail in one with a
    message about sockets. Does nothing in a run of one process.

    Args:
        silence: seconds without a sign of life after which a process counts as lost.
    """

    def __init__(self, silence: float = 20.0) -> None:
        self.silence = silence
        self.heartbeats: Heartbeats | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        first, host = trainer.is_global_zero, os.environ.get("MASTER_ADDR", "127.0.0.1")
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False) if first else None
        port = trainer.strategy.broadcast(store.port if store is not None else 0)
        if store is None:
            store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=30))
        self.heartbeats = Heartbeats(store, trainer.global_rank, trainer.world_size, self.silence)
        trainer.strategy.barrier()
        self.heartbeats.start()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.heartbeats is not None:
            trainer.strategy.barrier()  # nobody falls silent before all have stopped watching
            self.heartbeats.stopped.set()
            trainer.strategy.barrier()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        heartbeats, self.heartbeats = self.heartbeats, None
        if heartbeats is None:
            return
        # A broken connection is the first that is heard of a lost process; its silence tells which it was.
        if (
            isinstance(exception, RuntimeError)
            and heartbeats.found.wait(self.silence + 10)
            and heartbeats.lost
        ):
            print(f"Error: {sentence(heartbeats.lost)}", file=sys.stderr, flush=True)
            time.sleep(3 * BEAT)  # the store ends with the first process: let the others read it first
        heartbeats.stopped.set()

    def state_dict(self) -> dict[str, Any]:
        return {}
