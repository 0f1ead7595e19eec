"""When a process is killed, the other one ends too: no thread of ours has to watch them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytorch_lightning as pl

RUN = (
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.max_steps=1000",
    "trainer.val_check_interval=1000",
    "model.embedding_dim=8",
)


class Strike(pl.Callback):
    """Sends one process a signal in the middle of its third step, and leaves a note."""

    def __init__(self, rank: int, how: str, note: str) -> None:
        self.rank, self.how, self.note = rank, how, Path(note)

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: object) -> None:
        if (trainer.global_rank, trainer.global_step) == (self.rank, 2):
            self.note.touch()
            os.kill(os.getpid(), getattr(signal, self.how))


def start(folder: Path, rank: int) -> subprocess.Popen:
    """A run on two processes, as a person starts it, one of which will be killed; returns the first."""
    folder.mkdir()
    strike = f"{{_target_:{__name__}.Strike,rank:{rank},how:SIGKILL,note:{folder / 'note'}}}"
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "dml.train",
            *RUN,
            f"+callbacks.strike={strike}",
            f"hydra.run.dir={folder / 'run'}",
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def test_the_other_process_ends_within_a_minute(tmp_path: Path) -> None:
    folders = [tmp_path / "first_is_killed", tmp_path / "second_is_killed"]
    runs = [start(folder, rank) for rank, folder in enumerate(folders)]
    try:
        for run, folder in zip(runs, folders, strict=True):
            while not (folder / "note").exists():
                assert run.poll() is None, run.communicate()[0].decode()
                time.sleep(0.1)
        for run in runs:
            run.communicate(timeout=60)  # returns when both processes have closed their output
            assert run.returncode != 0
    finally:
        for run in runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
