"""A sweep over several devices, as a person types it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_each_trial_runs_apart_and_one_that_fails_is_a_row_of_the_table(tmp_path):
    devices = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    trials = ["loss.alpha=2,-1", "hydra.sweep.dir=sweep"]
    done = subprocess.run(
        [sys.executable, "-m", "dml.train", "-m", "debug=fast", "model.embedding_dim=8", *devices, *trials],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    with (tmp_path / "sweep" / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["loss.alpha"] for row in rows] == ["2", "-1"], done.stderr
    assert float(rows[0]["test/recall_at_1"]) > 0, done.stderr
    assert "loss.alpha and loss.beta must be positive" in rows[1]["error"]
    assert str(tmp_path) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
