"""A whole run on the embedded digits: what it writes, that it repeats, how it stops."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from dml.errors import UserError
from dml.runs.evaluation import evaluate
from dml.runs.training import train

FAST = ("debug=fast", "model.embedding_dim=8", "trainer=cpu")
PLAIN = (*FAST, "dataset.canvas=8", "callbacks.retrieval_grid=null", "callbacks.recall.nmi=false")


class Interrupt(pl.Callback):
    """Presses Ctrl-C during a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module", autouse=True)
def _keep_the_handler_of_ctrl_c():
    """Lightning turns Ctrl-C off when it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def figures_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def retrieval(folder: Path) -> dict[str, Any]:
    return {name: value for name, value in figures_in(folder).items() if name.startswith("test/")}


def test_a_run_leaves_its_metrics_checkpoints_and_picture(compose, tmp_path, capsys):
    figures = train(compose(*FAST, "baselines=true"))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "digits: 901 training images of 5 classes, 896 test images of 5 other classes."
    assert printed[1] == f"Split fingerprint: {figures['fingerprint']} (the official list)"
    assert {f"test/recall_at_{k}" for k in (1, 2, 4, 8)} <= figures.keys()
    assert {"test/map_at_r", "test/r_precision", "test/nmi"} <= figures.keys()
    assert figures["baselines"].keys() == {"raw pixels", "untrained"}
    assert "test classes" in figures["protocol"]
    json.dumps(figures)
    assert not any("it/s" in line for line in printed)  # no progress bar where the output is no terminal
    run = tmp_path / "run"
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    with Image.open(run / "retrievals.png") as picture:
        assert picture.size == (1080, 420)  # two rows of a query and its five nearest
    with (run / "metrics.csv").open() as stream:
        columns = csv.DictReader(stream).fieldnames
    assert {"train/loss", "val/recall_at_1", "test/recall_at_1", "step"} <= set(columns)


def test_a_seeded_run_repeats_to_the_digit_and_another_seed_does_not(compose, tmp_path, digits_run):
    first, other = digits_run(0), digits_run(1)
    train(compose(*FAST, "callbacks.retrieval_grid=null"))
    assert "test/nmi" in retrieval(first)
    assert retrieval(first) == retrieval(tmp_path / "run") != retrieval(other)


@pytest.mark.parametrize(
    ("overrides", "best"),
    [
        (["dataset.recall_at=[10,1]"], "recall_at_1"),
        (["callbacks.best_checkpoint.monitor=val/recall_at_2"], "recall_at_2"),
    ],
)
def test_the_best_figure_has_the_name_of_what_was_monitored(compose, tmp_path, overrides, best):
    """The two validations of the run are in metrics.csv, the better one under the metric's own name."""
    figures = train(compose(*PLAIN, *overrides))
    with (tmp_path / "run" / "metrics.csv").open() as stream:
        validated = [float(row[f"val/{best}"]) for row in csv.DictReader(stream) if row[f"val/{best}"]]
    named = {name: value for name, value in figures.items() if name.startswith("val/best")}
    assert named == {f"val/best_{best}": pytest.approx(max(validated))}


def test_evaluation_gives_the_same_figures_from_the_checkpoint_alone(compose, tmp_path, digits_run):
    alone = shutil.copy(digits_run(0) / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    again = evaluate(
        compose(f"ckpt_path={alone}", "trainer.accelerator=cpu", "report=false", name="evaluate")
    )
    assert retrieval(tmp_path / "run") == retrieval(digits_run(0))
    assert again["fingerprint"] == figures_in(digits_run(0))["fingerprint"]
    assert (tmp_path / "run" / "retrievals.png").is_file()


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_evaluation_gives_the_same_figures_in_any_precision(compose, tmp_path, precision):
    train(compose(*PLAIN, f"trainer.precision={precision}", "report=false"))
    plain = (
        "trainer.accelerator=cpu",
        "report=false",
        "callbacks.retrieval_grid=null",
        "callbacks.recall.nmi=false",
    )
    evaluate(compose(f"ckpt_path={tmp_path / 'run'}", *plain, name="evaluate", folder="again"))
    assert retrieval(tmp_path / "again") == retrieval(tmp_path / "run")


def test_ctrl_c_leaves_a_checkpoint_to_resume(compose, tmp_path, monkeypatch):
    config = compose(*PLAIN, folder="a")
    config.callbacks.progress = {"_target_": f"{__name__}.Interrupt", "step": 3}
    with pytest.raises(SystemExit):
        train(config)
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 3
    assert train(compose(*PLAIN, f"ckpt_path={last}", folder="b"))["steps"] == 4


def test_a_loss_that_becomes_nan_stops_and_keeps_the_last_good_checkpoint(compose, tmp_path):
    # Validated and saved after step 2; the third step, at an absurd rate, ruins the weights.
    absurd = ("optimizer=sgd", "scheduler=multistep", "scheduler.milestones=[0.5]", "scheduler.gamma=1e38")
    with pytest.raises(UserError, match="The loss is nan at step 3"):
        train(compose(*FAST, *absurd))
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())


def test_another_architecture_cannot_resume_a_checkpoint(compose, digits_run):
    path = digits_run(0) / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=r"head\.bias|head\.weight"):
        train(compose("debug=fast", "trainer=cpu", "model.embedding_dim=16", f"ckpt_path={path}"))


def test_wandb_runs_offline_without_an_account(compose, tmp_path, monkeypatch):
    import wandb

    # As on a machine that never heard of an account, and in a process that has not read its settings yet.
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb.teardown()
    train(compose(*PLAIN, "logger=wandb"))
    summary, config = dict(wandb.run.summary), dict(wandb.run.config)
    wandb.finish()
    assert {"train/loss", "val/recall_at_1", "test/recall_at_1"} <= summary.keys()
    assert config["loss"]["alpha"] == 2.0
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))


def test_wandb_disabled_writes_nothing(compose, tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    train(compose(*PLAIN, "logger=wandb"))
    wandb.finish()
    assert not list((tmp_path / "run").rglob("*run-*"))


def test_tensorboard_writes_its_events(compose, tmp_path):
    train(compose(*PLAIN, "logger=tensorboard"))
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))
    assert Path(tmp_path / "run" / "metrics.csv").is_file()
