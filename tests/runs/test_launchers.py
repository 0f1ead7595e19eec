"""Sweeps by Hydra's launchers, whose trials run in processes of their own."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("joblib", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("submitit", ["hydra/launcher=submitit_local"]),
        ("ray", ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]),
    ],
)
def test_a_sweep_of_two_trials_ends_in_its_table_and_a_failed_one_is_a_row(tmp_path, module, options):
    pytest.importorskip(f"hydra_plugins.hydra_{module}_launcher")
    trials = [
        "debug=fast",
        "trainer=cpu",
        "data.num_workers=1",
        "model.embedding_dim=8",
        "loss.alpha=2,-1",
        "hydra.sweep.dir=sweep",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "dml.train", "-m", *trials, *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "2 trials, best Recall@1 first" in done.stdout
    with (tmp_path / "sweep" / "sweep.csv").open() as stream:
        good, bad = csv.DictReader(stream)
    assert float(good["test/recall_at_1"]) > 0
    assert (good["loss.alpha"], bad["loss.alpha"]) == ("2", "-1")
    assert "loss.alpha and loss.beta must be positive" in bad["error"]
