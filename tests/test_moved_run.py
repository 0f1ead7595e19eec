"""A run that resumes elsewhere or under other settings, and what an earlier run leaves in its folder."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from test_resume import Dead

from dml.config.cli import CONF
from dml.data.datasets import digits
from dml.data.split import Samples, Split
from dml.errors import Note, UserError
from dml.runs.checkpoints import checkpoint_to_resume
from dml.runs.evaluation import evaluate
from dml.runs.loggers import read_rows
from dml.runs.report import write_metrics
from dml.runs.training import train

FAST = (
    "trainer=cpu",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=1",
    "model.embedding_dim=8",
    "dataset.canvas=8",
    "scheduler=cosine",
    "data.eval_batch_size=900",
    "callbacks.retrieval_grid=null",
    "report=false",
    "callbacks.recall.nmi=false",
)
LONGER = ("trainer.max_steps=6", "callbacks.last_checkpoint.every_n_train_steps=1")
UNBEATABLE = torch.tensor(2.0, dtype=torch.float64)


class Watch(pl.Callback):
    """Notes the learning rate of every step, by the step's number."""

    seen: dict[int, float]

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        Watch.seen[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]


def fewer(canvas: int) -> Split:
    """The digits without the last training image."""
    split = digits.load(canvas=canvas)
    kept = Samples(split.train.images[:-1], split.train.labels[:-1], split.train.names[:-1])
    return Split(split.classes, kept, split.query, split.gallery)


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run, whose best checkpoint no later one will beat."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with initialize_config_dir(CONF, version_base="1.3"):
        write_metrics(folder, train(hydra_compose("train", [f"run_dir={folder}", *FAST])))
    for file in (folder / "checkpoints").iterdir():
        checkpoint = read(file)
        [state] = (s for s in checkpoint["callbacks"].values() if s.get("best_model_score") is not None)
        state["best_model_score"] = UNBEATABLE
        for path in state.get("best_k_models", {}):
            state["best_k_models"][path] = UNBEATABLE
        torch.save(checkpoint, file)
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


Moved = Callable[[Path], list[str]]


def renamed(run: Path) -> list[str]:
    run.rename(run.with_name("renamed"))
    return [f"run_dir={run.with_name('renamed')}", "resume=auto"]


def by_a_relative_path(run: Path) -> list[str]:
    os.chdir(run.parent)
    return ["run_dir=run", "ckpt_path=run/checkpoints/last.ckpt"]


def into_a_new_folder(run: Path) -> list[str]:
    return [f"run_dir={run.with_name('new')}", f"ckpt_path={run}/checkpoints/last.ckpt"]


@pytest.mark.parametrize("move", [renamed, by_a_relative_path, into_a_new_folder])
def test_the_best_checkpoint_is_known_wherever_the_run_resumes(compose, run, monkeypatch, move: Moved):
    monkeypatch.chdir(run)  # restored afterwards
    content = (run / "checkpoints" / "best.ckpt").read_bytes()
    overrides = move(run)
    config = compose(*FAST, *LONGER, *overrides)
    figures = train(config)
    best = Path(config.run_dir) / figures["checkpoint"]
    assert best.read_bytes() == content
    assert figures["val/best_recall_at_1"] == UNBEATABLE
    assert read(best)["global_step"] < figures["steps"] == 6


def test_without_its_best_checkpoint_a_run_says_that_it_chooses_anew(compose, run, tmp_path):
    moved = (run / "checkpoints" / "last.ckpt").rename(tmp_path / "last.ckpt")
    with pytest.warns(Note, match=r"no best\.ckpt of before"):
        figures = train(compose(*FAST, *LONGER, f"ckpt_path={moved}", folder="new"))
    assert figures["val/best_recall_at_1"] <= 1
    assert read(tmp_path / "new" / figures["checkpoint"])["global_step"] == 6


def test_a_checkpoint_holds_no_path_but_those_that_were_typed(run, finished):
    def strings(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [s for item in node.items() for s in strings(item)]
        if isinstance(node, (list, tuple)):
            return [s for item in node for s in strings(item)]
        return [node] if isinstance(node, str) else []

    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = read(run / "checkpoints" / name)
        assert checkpoint["config"].pop("run_dir") == str(finished)
        assert [s for s in strings(checkpoint) if str(finished.parent) in s] == []


@pytest.mark.parametrize("operation", range(1, 5))
def test_whichever_file_operation_fails_there_is_a_checkpoint_to_resume(compose, run, monkeypatch, operation):
    checkpoints = run / "checkpoints"
    shutil.copy(checkpoints / "last.ckpt", checkpoints / "previous.ckpt")
    (checkpoints / "last.ckpt").write_bytes((checkpoints / "last.ckpt").read_bytes()[:-1000])
    replace, left = os.replace, operation

    def failing(source: Any, target: Any) -> None:
        nonlocal left
        left -= "checkpoints" in str(target)
        if left == 0:
            raise Dead
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(Dead), pytest.warns(UserWarning, match=r"previous\.ckpt"):
        train(compose(*FAST, *LONGER, "resume=auto"))
    monkeypatch.undo()
    assert read(checkpoint_to_resume("last", None, run))["global_step"] >= 4


def test_other_data_other_validation_another_optimizer_and_fewer_steps_are_refused(compose, run):
    for override, message in {
        f"dataset.split._target_={__name__}.fewer": "written on other data",
        "protocol=holdout": r"protocol=holdout \(was paper\)",
        "optimizer=sgd": r"optimizer\._target_=torch\.optim\.SGD \(was torch\.optim\.Adam\)",
        "model.freeze=1": r"model\.freeze=1 \(was None\): the optimiser's state is that of other parameters",
        "trainer.max_steps=3": r"is of step 4, beyond trainer\.max_steps=3",
    }.items():
        with pytest.raises(UserError, match=message):
            train(compose(*FAST, "resume=auto", override))


def test_other_settings_are_applied_and_said(compose, run):
    Watch.seen = {}
    config = compose(
        *FAST, "resume=auto", "trainer.max_steps=8", "optimizer.lr=0.5", "dataset.root=/elsewhere"
    )
    config.callbacks.progress = {"_target_": f"{__name__}.Watch"}
    with pytest.warns(Note) as said:
        train(config)
    [settings] = (str(s.message) for s in said if "other settings" in str(s.message))
    assert settings.endswith("other settings: optimizer.lr=0.5 (was 0.001), trainer.max_steps=8 (was 4).")
    assert any("learning rate at step 4 is 0.25 (was" in str(s.message) for s in said)
    assert Watch.seen == pytest.approx({step: 0.25 * (1 + np.cos(np.pi * step / 8)) for step in range(4, 8)})


@pytest.mark.parametrize(
    ("optimizer", "momentum", "said"),
    [
        (
            "optimizer=adam",
            "+optimizer.amsgrad=true",
            "holds no 'max_exp_avg_sq', which the present optimizer",
        ),
        ("optimizer=sgd", "optimizer.momentum=0.5", None),
    ],
)
def test_an_optimizer_that_needs_what_the_checkpoint_lacks_is_refused(
    compose, tmp_path, optimizer, momentum, said
):
    train(compose(*FAST, optimizer, *(["optimizer.momentum=0"] if said is None else [])))
    resumed = compose(*FAST, *LONGER, optimizer, momentum, "resume=auto")
    if said is None:
        with pytest.warns(Note, match=r"optimizer\.momentum=0\.5 \(was 0\)"):
            assert train(resumed)["steps"] == 6
    else:
        with pytest.raises(UserError, match=said):
            train(resumed)


def test_settings_are_compared_without_calling_a_resolver(compose, run):
    called = []
    OmegaConf.register_new_resolver("told", called.append, replace=True)
    last = run / "checkpoints" / "last.ckpt"
    foreign = {
        "optimizer.lr": "${told:1}",
        "optimizer.weight_decay": "${broken",
        "loss.alpha": "${loss.beta}",
        "loss.beta": "${loss.alpha}",
        "trainer.max_steps": "${dataset.max_steps}",
        "dataset.max_steps": 4,
    }
    checkpoint = read(last)
    for key, value in foreign.items():
        group, name = key.split(".")
        checkpoint["config"][group][name] = value
    torch.save(checkpoint, last)
    with pytest.warns(Note) as said:
        train(compose(*FAST, "resume=auto", "dataset.max_steps=4"))
    [settings] = (str(s.message) for s in said if "other settings" in str(s.message))
    changed = settings.partition("other settings: ")[2]
    assert changed.startswith("loss.alpha=2.0 (was ${loss.")
    assert "optimizer.lr=0.001 (was ${told:1}), optimizer.weight_decay=" in changed
    assert "max_steps" not in changed
    assert called == []


def test_a_new_run_in_an_old_folder_is_refused_and_changes_nothing(compose, run):
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for overrides in ((), ("seed=1",), (f"ckpt_path={run.parent}/other.ckpt",)):
        with pytest.raises(
            UserError, match=r"run holds metrics\.json and \d more .* resume=auto .* overwrite=true"
        ):
            train(compose(*FAST, *overrides))
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_new_run_in_an_old_folder_loses_nothing_and_leaves_no_old_figures(compose, run, finished):
    note = pytest.warns(Note, match=r"metrics\.json, queries\.csv, metrics\.csv, checkpoints/best\.ckpt")
    with note, pytest.raises(UserError, match="classes_per_batch"):
        train(compose(*FAST, "sampler.classes_per_batch=41", "overwrite=true"))
    assert not (run / "metrics.json").exists()
    for name in ("metrics.json", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (run / "older" / name).read_bytes() == (finished / name).read_bytes()
    assert train(compose(*FAST, "overwrite=true"))["val/best_recall_at_1"] <= 1


def test_a_resumed_run_leaves_no_figures_of_before(compose, run):
    with pytest.raises(UserError, match="classes_per_batch"):
        train(compose(*FAST, "resume=auto", "sampler.classes_per_batch=41"))
    assert not (run / "metrics.json").exists()
    assert (run / "older" / "metrics.json").exists()
    assert len(read_rows(run / "metrics.csv")) > 4


def test_there_is_one_best_checkpoint_and_it_is_what_is_tested(compose, tmp_path):
    with pytest.raises(UserError, match="save_top_k"):
        train(compose(*FAST, "+callbacks.best_checkpoint.save_top_k=3"))
    watched = ("callbacks.best_checkpoint.monitor=train/loss", "callbacks.best_checkpoint.mode=min")
    steep = ("optimizer=sgd", "optimizer.lr=100", "dataset.canvas=16")
    figures = train(compose(*FAST, *watched, *steep, folder="min"))
    rows = read_rows(tmp_path / "min" / "metrics.csv")
    losses = {int(row["step"]) + 1: float(row["train/loss"]) for row in rows if row["train/loss"]}
    step = min((2, 4), key=losses.__getitem__)
    assert figures["train/best_loss"] == pytest.approx(losses[step])
    assert read(tmp_path / "min" / figures["checkpoint"])["global_step"] == step


def test_what_nothing_logs_cannot_be_watched(compose):
    with pytest.raises(
        UserError, match=r"BestCheckpoint watches train/accuracy, which nothing logs; .*val/recall_at_1"
    ):
        train(compose(*FAST, "callbacks.best_checkpoint.monitor=train/accuracy"))
    config = compose(*FAST, folder="other")
    config.callbacks.progress = {
        "_target_": "pytorch_lightning.callbacks.EarlyStopping",
        "monitor": "train/accuracy",
    }
    with pytest.raises(UserError, match="EarlyStopping watches train/accuracy"):
        train(config)


@pytest.mark.parametrize("damage", [b"\x00\xff rubbish", b"epoch,loss\n1,2\n"])
def test_a_damaged_metrics_csv_stops_no_resume(compose, run, damage):
    (run / "metrics.csv").write_bytes(damage)
    with pytest.warns(Note, match=r"metrics\.csv goes on without"):
        assert train(compose(*FAST, *LONGER, "resume=auto"))["steps"] == 6
    assert {int(row["step"]) for row in read_rows(run / "metrics.csv")} >= {5, 6}
    assert [file.read_bytes() for file in run.glob("older*/metrics.csv")] == [damage]


def test_training_that_ends_before_a_validation_is_no_run(compose):
    with pytest.raises(UserError, match="ended at step 1, before any validation"):
        train(compose(*FAST, "+trainer.limit_train_batches=1", "+trainer.max_epochs=1"))


def test_a_run_that_diverged_says_so(compose, tmp_path, capsys):
    lr = ("optimizer.lr=1e4", "trainer.max_steps=10", "trainer.val_check_interval=10", "dataset.canvas=16")
    figures = train(compose(*FAST, *lr, "model.embedding_dim=64"))
    assert figures["collapsed"] is True
    assert "COLLAPSED" in capsys.readouterr().out
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    again = ("trainer.accelerator=cpu", "callbacks.retrieval_grid=null", "report=false")
    assert (
        evaluate(compose(f"ckpt_path={best}", *again, name="evaluate", folder="again"))["collapsed"] is True
    )
