"""A run on two processes that is stopped and resumed ends like one that never stopped, to the last bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from test_resume import RUN, content, same
from torch.multiprocessing import ProcessExitedException
from worlds import in_world

from dml.config.cli import CONF
from dml.runs.training import train

SEVERAL = ("trainer=ddp", "trainer.accelerator=cpu")


def ended(folder: Path, *overrides: str, strike: dict[str, Any] | None = None) -> tuple[Any, ...]:
    """What a run leaves behind, as `content` of it."""
    with initialize_config_dir(CONF, version_base="1.3"):
        given = [f"run_dir={folder}", *RUN, *SEVERAL, f"trainer.devices={dist.get_world_size()}", *overrides]
        config = compose("train", given)
    config.callbacks.progress = strike and {"_target_": "test_resume.Strike", **strike}
    figures = train(config)
    dist.barrier()  # the first process writes
    return content(folder, figures)


def saved(folder: Path) -> int:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def unbroken_and_stopped(folder: Path, step: int) -> dict[str, Any]:
    """An unbroken run, and one whose last process alone was asked to stop."""
    found: dict[str, Any] = {"unbroken": ended(folder / "unbroken")}
    last = dist.get_rank() == dist.get_world_size() - 1
    try:
        ended(folder / "stopped", strike={"step": step, "how": "SIGTERM"} if last else None)
    except SystemExit:
        found["step"] = saved(folder / "stopped")
    return found | {"gone on": ended(folder / "stopped", "resume=auto")}


def killed(folder: Path) -> None:
    every_step = "callbacks.last_checkpoint.every_n_train_steps=1"
    ended(folder / "killed", every_step, strike={"step": 8, "how": "SIGKILL"})


def gone_on_after_death(folder: Path) -> tuple[Any, ...]:
    return ended(folder / "killed", "resume=auto")


def differing(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> list[str]:
    names = ("figures", "last weights", "best weights", "optimizer", "scheduler", "metrics.csv")
    return [name for name, a, b in zip(names, ours, theirs, strict=True) if not same(a, b)]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, Any]]:
    return in_world(2, tmp_path_factory.mktemp("two"), unbroken_and_stopped, 4)


def test_two_processes_of_which_one_is_asked_to_stop_where_a_validation_is_due(two):
    for process in two:
        assert process["step"] == 4
        assert differing(process["gone on"], process["unbroken"]) == []


def test_two_processes_that_are_killed(two, tmp_path):
    with pytest.raises(ProcessExitedException):
        in_world(2, tmp_path, killed)
    assert saved(tmp_path / "killed") == 7
    for ours, theirs in zip(in_world(2, tmp_path, gone_on_after_death), two, strict=True):
        assert differing(ours, theirs["unbroken"]) == []
