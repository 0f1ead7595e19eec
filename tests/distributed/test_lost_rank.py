"""A process that is killed in the middle: the others stop, name it, and the run goes on from its checkpoint."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from worlds import free_port

from dml.config.cli import CONF
from dml.train import train

SIZE, KILLED, STEP = 3, 1, 5


class Kill(pl.Callback):
    """Kills one process in the middle of a step, or lets it hang there."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_rank == KILLED and trainer.global_step + 1 == STEP:
            os.kill(os.getpid(), getattr(signal, self.how))


def run(rank: int, size: int, port: int, folder: Path, how: str | None) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    torch.set_num_threads(1)
    os.dup2(os.open(folder / f"stderr_{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    overrides = [
        f"run_dir={folder / 'run'}",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        f"trainer.devices={size}",
        "trainer.max_steps=7",
        "trainer.val_check_interval=7",
        "+trainer.enable_progress_bar=false",
        "model.embedding_dim=8",
        "model.freeze_batchnorm=true",
        "callbacks.progress=null",
        "callbacks.retrieval_grid=null",
        "callbacks.last_checkpoint.every_n_train_steps=2",
        "callbacks.lost_rank.silence=5",
        "resume=auto",
    ]
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("train", overrides)
    if how is not None:
        config.callbacks.progress = {"_target_": f"{__name__}.Kill", "how": how}
    figures = train(config)
    torch.save(figures, folder / f"figures_{rank}.pt")


def world(folder: Path, how: str | None = None) -> list[multiprocessing.Process]:
    context, port = multiprocessing.get_context("forkserver"), free_port()
    multiprocessing.set_forkserver_preload(["torch", "pytorch_lightning", "dml.train", __name__])
    processes = [context.Process(target=run, args=(rank, SIZE, port, folder, how)) for rank in range(SIZE)]
    for process in processes:
        process.start()
    return processes


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_the_others_stop_and_name_it_and_the_run_goes_on(tmp_path, how):
    processes = world(tmp_path, how)
    try:
        last = tmp_path / "run" / "checkpoints" / "last.ckpt"
        while not (last.is_file() and torch.load(last, weights_only=True)["global_step"] == 4):
            time.sleep(0.2)
        begun = time.monotonic()
        for rank in (0, 2):
            processes[rank].join(60)
            assert processes[rank].exitcode not in (0, None)
        assert time.monotonic() - begun < 60
        for rank in (0, 2):
            said = (tmp_path / f"stderr_{rank}").read_text()
            assert f"process {KILLED} (pid {processes[KILLED].pid} on" in said
    finally:
        for process in processes:
            process.kill()
            process.join()

    if how == "SIGKILL":
        for process in world(tmp_path):
            process.join(120)
            assert process.exitcode == 0
        assert torch.load(tmp_path / "figures_0.pt", weights_only=False)["steps"] == 7
