"""The commands as a person types them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FAST = ("debug=fast", "model.embedding_dim=8", "trainer=cpu")


def run(module: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    path = {"PYTHONPATH": str(REPOSITORY)}
    import os

    return subprocess.run(
        command, cwd=folder, env=os.environ | path, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_run_prints_its_folder_last_from_wherever_it_is_started(tmp_path):
    done = run("dml.train", *FAST, "hydra.run.dir=my run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1])
    assert folder == tmp_path / "my run"
    assert 0 <= json.loads((folder / "metrics.json").read_text())["test/recall_at_1"] <= 1
    assert (folder / ".hydra" / "config.yaml").is_file()


def test_a_mistake_is_one_sentence(tmp_path):
    done = run("dml.train", *FAST, "sampler.classes_per_batch=41", folder=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "classes_per_batch" in done.stderr.splitlines()[-1]


def test_a_sweep_ends_with_a_table_and_a_failed_trial_does_not_end_it(tmp_path):
    done = run(
        "dml.train",
        "-m",
        *FAST,
        "loss.alpha=2,-1",
        "loss.lambda=0.5",
        "hydra.sweep.dir=sweep",
        folder=tmp_path,
    )
    assert "2 trials, best Recall@1 first" in done.stdout, done.stderr
    with (tmp_path / "sweep" / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["loss.alpha"] for row in rows] == ["2", "-1"]
    assert float(rows[0]["test/recall_at_1"]) > 0
    assert "loss.alpha" in rows[1]["error"]
