"""A sweep over several devices: each trial is a command of its own."""

import csv
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_each_trial_runs_apart_and_one_that_fails_is_a_row_of_the_table(tmp_path, typed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # of the trials' processes
    quick = ["debug=fast", "model.embedding_dim=8", "dataset.canvas=8", "callbacks.retrieval_grid=null"]
    devices = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    done = typed("dml.train", "-m", *quick, *devices, "loss.alpha=2,-1", "hydra.sweep.dir=sweep")
    assert done.code == 1, done.err
    with (tmp_path / "sweep" / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["loss.alpha"] for row in rows] == ["2", "-1"], done.err
    assert float(rows[0]["test/recall_at_1"]) > 0, done.err
    assert "loss.alpha and loss.beta must be positive" in rows[1]["error"]
    assert str(tmp_path) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
