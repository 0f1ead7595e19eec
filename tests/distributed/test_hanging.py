"""A process that is stopped is waited for as long as the timeouts say; then all end, in one sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl

RUN = (
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.strategy.timeout.minutes=1.5",  # to import torch on a busy machine, too
    "trainer.max_steps=100000",
    "trainer.val_check_interval=100000",
    "model.embedding_dim=8",
    "data.num_workers=1",
    "data.worker_timeout=5",
)


class Strike(pl.Callback):
    """Stops one process, or its data worker, in its third step."""

    def __init__(self, rank: int, worker: bool) -> None:
        self.rank, self.worker = rank, worker

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: object) -> None:
        if (trainer.global_rank, trainer.global_step) == (self.rank, 2):
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            workers = [
                pid for pid in map(int, children) if b"LOCAL_RANK" in environment(pid) or self.rank == 0
            ]
            os.kill(workers[-1] if self.worker else os.getpid(), signal.SIGSTOP)


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def of_session(session: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "stat=,args=", "-s", str(session)], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc, prctl")
@pytest.mark.parametrize(
    ("rank", "worker", "sentence"),
    [
        (0, False, "Another process of this run has ended"),
        (1, False, "Another process of this run has ended"),
        (1, True, "No data worker delivered a batch within 5"),
    ],
)
def test_all_end_in_one_sentence(tmp_path: Path, rank: int, worker: bool, sentence: str) -> None:
    strike = f"{{_target_:{__name__}.Strike,rank:{rank},worker:{worker}}}"
    output = tmp_path / "output"
    with output.open("w") as stream:
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "dml.train", *RUN),
                f"+callbacks.strike={strike}",
                f"hydra.run.dir={tmp_path / 'run'}",
            ],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert run.wait(timeout=400) != 0
            end = time.monotonic() + 20
            while of_session(run.pid) and time.monotonic() < end:
                time.sleep(0.2)
            assert of_session(run.pid) == []
        finally:
            if of_session(run.pid):
                os.killpg(run.pid, signal.SIGKILL)
    text = output.read_text()
    # Whichever process speaks first: the one whose worker is gone, or one that waits for it.
    assert f"Error: {sentence}" in text or (worker and "Error: Another process of this run" in text), text
    assert "Traceback" not in text, text
