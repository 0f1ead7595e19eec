"""A run that is stopped and resumed ends as if nothing had happened, to the last bit."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from dml.errors import UserError
from dml.runs.checkpoints import checkpoint_to_resume
from dml.runs.loggers import keep_metrics, read_rows
from dml.runs.training import train

RUN = (
    "trainer=cpu",
    "trainer.max_steps=9",
    "trainer.val_check_interval=4",
    "trainer.log_every_n_steps=1",
    "model.embedding_dim=8",
    "sampler.classes_per_batch=8",
    "sampler.steps_per_epoch=5",
    "dataset.canvas=8",
    "scheduler=cosine",
    "memory=xbm",
    "memory.size=100",  # of batches of 32: begins to overwrite in the fifth step
    "memory.start=1",
    "callbacks.retrieval_grid=null",
    "report=false",
    "callbacks.recall.nmi=false",
)


class Dead(BaseException):
    """What no code expects."""


class Strike(pl.Callback):
    """Sends a signal during a step, or dies in it: nothing may be written then."""

    def __init__(self, step: int, how: str) -> None:
        self.step, self.how = step, how

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step + 1 == self.step:
            if self.how == "dies":
                raise Dead
            os.kill(os.getpid(), getattr(signal, self.how))


@pytest.fixture(autouse=True)
def _keep_signal_handlers():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def content(folder: Path, figures: dict[str, Any]) -> tuple[Any, ...]:
    """Everything that must not depend on how often the run was stopped."""
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    rows = [{key: value for key, value in row.items() if value} for row in read_rows(folder / "metrics.csv")]
    return (
        figures,
        last["state_dict"],
        best["state_dict"],
        last["optimizer_states"],
        last["lr_schedulers"],
        rows,
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tuple[Any, ...]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from dml.config.cli import CONF

    folder = tmp_path_factory.mktemp("unbroken")
    with initialize_config_dir(CONF, version_base="1.3"):
        figures = train(hydra_compose("train", [f"run_dir={folder}", *RUN]))
    return content(folder, figures)


@pytest.mark.parametrize(
    ("how", "step", "saved"),
    [
        ("SIGTERM", 4, 4),  # a validation is due: it runs first
        ("SIGTERM", 5, 5),  # the end of an epoch
        ("SIGINT", 9, 9),  # the last step
        ("dies", 4, 3),  # like SIGKILL: what was written before is all there is
    ],
)
def test_a_stopped_run_ends_like_an_unbroken_one(compose, tmp_path, unbroken, caplog, how, step, saved):
    config = compose(*RUN, "callbacks.last_checkpoint.every_n_train_steps=1")
    config.callbacks.progress = {"_target_": f"{__name__}.Strike", "step": step, "how": how}
    with caplog.at_level("INFO", "dml"), pytest.raises((SystemExit, Dead)):
        train(config)
    if how != "dies":
        assert any("resume=auto" in said.message for said in caplog.records if said.name.startswith("dml."))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == saved

    figures = train(compose(*RUN, "resume=auto"))
    ours, theirs = content(tmp_path / "run", figures), unbroken
    names = ("figures", "last weights", "best weights", "optimizer", "scheduler", "metrics.csv")
    assert [name for name, a, b in zip(names, ours, theirs, strict=True) if not same(a, b)] == []


def test_a_checkpoint_cut_short_gives_way_to_the_one_before_it(compose, tmp_path, unbroken):
    config = compose(*RUN, "callbacks.last_checkpoint.every_n_train_steps=1")
    config.callbacks.progress = {"_target_": f"{__name__}.Strike", "step": 6, "how": "dies"}
    with pytest.raises(Dead):
        train(config)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=r"last\.ckpt: not a readable checkpoint .* Resuming from"):
        figures = train(compose(*RUN, "ckpt_path=last"))
    assert same(content(tmp_path / "run", figures)[:3], unbroken[:3])


def test_a_flipped_byte_is_noticed(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("previous.ckpt", "last.ckpt"):
        torch.save({"state_dict": {"w": torch.ones(5000)}, "config": {}}, folder / name)
    content = bytearray((folder / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "last.ckpt").write_bytes(content)
    with pytest.warns(UserWarning, match=r"previous\.ckpt"):
        assert checkpoint_to_resume("last", None, tmp_path) == folder / "previous.ckpt"


def test_where_there_is_nothing_auto_begins_and_last_says_so(tmp_path):
    assert checkpoint_to_resume(None, None, tmp_path) is None
    assert checkpoint_to_resume(None, "auto", tmp_path) is None
    assert checkpoint_to_resume("some.ckpt", "auto", tmp_path) == Path("some.ckpt")
    with pytest.raises(UserError, match=r"holds no last\.ckpt"):
        checkpoint_to_resume("last", None, tmp_path)


def test_metrics_keep_what_will_not_be_logged_again(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,train/loss\n0,1.5\n1,1.25\n2,1.0\n1")
    keep_metrics(tmp_path, before=2)
    assert file.read_text().split() == ["step,train/loss", "0,1.5", "1,1.25"]
    keep_metrics(tmp_path, before=0)
    assert not file.exists()
