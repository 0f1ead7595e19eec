"""Weights & Biases, offline: one run, however often it is resumed, and one line."""

import pytest

from dml.errors import UserError
from dml.runs.checkpoints import outdated
from dml.runs.wandb_logger import wandb_logger


@pytest.mark.parametrize("given", [None, "mine"])
def test_a_second_logger_in_the_folder_goes_on_in_the_same_run(tmp_path, capfd, given):
    ids = []
    for step in range(2):
        logger = wandb_logger("dml", str(tmp_path), id=given, entity="me", notes="a try", offline=True)
        logger.log_metrics({"loss": 1.0}, step)
        run = logger.experiment
        ids.append(run.id)
        assert (run.entity, run.notes) == ("me", "a try")
    run.finish()
    assert ids[0] == ids[1] == (tmp_path / "wandb_id").read_text()
    assert given in (None, ids[0])
    printed = capfd.readouterr()
    assert [line[:24] for line in printed.out.splitlines()] == ["W&B: wandb sync --append"] * 2
    assert printed.err == ""


def test_a_new_run_in_the_folder_sets_the_id_aside(tmp_path):
    assert "wandb_id" in outdated(tmp_path, None)


def test_a_disabled_run_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = wandb_logger("dml", str(tmp_path))
    logger.log_metrics({"loss": 1.0}, 0)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ""


def test_what_wandb_refuses_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"^logger\.wandb: "):
        _ = wandb_logger("dml", str(tmp_path), id="a/b#c", offline=True).experiment
