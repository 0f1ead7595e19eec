"""The commands as a person types them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from dml.config.cli import CONF
from dml.runs.folder import new_folder

REPOSITORY = Path(__file__).resolve().parents[2]
FAST = (
    "debug=fast",
    "model.embedding_dim=8",
    "trainer=cpu",
    "dataset.canvas=8",
    "callbacks.recall.nmi=false",
)


def run(module: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    path = {"PYTHONPATH": str(REPOSITORY)}
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


def test_a_mistake_is_one_sentence(tmp_path, typed):
    done = typed("dml.train", *FAST, "sampler.classes_per_batch=41", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.code == 1
    assert "Traceback" not in done.err + done.out
    assert "classes_per_batch" in done.err.splitlines()[-1]


def test_a_sweep_ends_with_a_table_and_a_failed_trial_does_not_end_it(tmp_path, typed):
    swept = ("loss.alpha=-1,2", "loss.lambda=0.5", "seed=${hydra:job.num}")
    done = typed("dml.train", "-m", *FAST, *swept, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert "2 trials, best Recall@1 first" in done.out, done.err
    assert done.code == 1
    with (tmp_path / "sweep" / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["loss.alpha"] for row in rows] == ["2", "-1"]
    assert float(rows[0]["test/recall_at_1"]) > 0
    assert "loss.alpha" in rows[1]["error"]


def test_a_sweep_of_which_no_trial_passes_is_refused_whatever_its_overrides_refer_to(tmp_path, typed):
    swept = ("loss.alpha=-1,-2", "seed=${hydra:job.num}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = typed("dml.train", "-m", *FAST, *swept)
    assert done.code == 1
    assert "loss.alpha and loss.beta must be positive" in done.err
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_lists_its_own_trials_however_its_folders_are_named(tmp_path, typed):
    def rows(*trials: str) -> list[str]:
        swept = (
            f"hydra.sweep.dir={tmp_path / 'sweep'}",
            "hydra.sweep.subdir=digits/${hydra.job.num}",
            *trials,
        )
        done = typed("dml.train", "-m", *swept)
        assert done.code == 1, done.err  # all of them fail
        with (tmp_path / "sweep" / "sweep.csv").open() as stream:
            return [f"{row['trial']} {row[key]} {row['error'][:9]}" for row in csv.DictReader(stream)]

    key = "sampler.classes_per_batch"  # more than there are, which only the data can tell
    assert rows(f"{key}=77,78") == ["digits/0 77 UserError", "digits/1 78 UserError"]
    assert rows(f"{key}=79", "overwrite=true") == ["digits/0 79 UserError"]
    assert len((tmp_path / "sweep" / "older" / "sweep.csv").read_text().splitlines()) == 3
    older = json.loads((tmp_path / "sweep" / "digits" / "0" / "older" / "metrics.json").read_text())
    assert "77" in older["error"]


@pytest.mark.parametrize("command", ["train", "evaluate", "weights"])
@pytest.mark.parametrize("mode", ["run", "sweep"])
def test_commands_that_start_together_have_folders_of_their_own(tmp_path, monkeypatch, command, mode):
    monkeypatch.chdir(tmp_path)
    folders = []
    with initialize_config_dir(CONF, version_base="1.3"):
        for _process in range(2):
            new_folder.cache_clear()
            settings = compose(command, return_hydra_config=True).hydra[mode]
            assert settings.dir == settings.dir
            folders.append(Path(settings.dir))
    assert folders[0] != folders[1]
    assert all(folder.is_dir() and not list(folder.iterdir()) for folder in folders)


def test_a_signal_to_all_processes_of_a_run_stops_it_after_the_step(tmp_path):
    """As a terminal's Ctrl-C, `timeout` and SLURM send it: data workers get it too."""
    steps = (
        *("trainer.max_steps=1000000", "trainer.val_check_interval=1000000", "data.num_workers=1"),
        "callbacks.last_checkpoint.every_n_train_steps=2",
    )
    command = [sys.executable, "-m", "dml.train", "trainer=cpu", "model.embedding_dim=8", "hydra.run.dir=run"]
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(
            [*command, *steps],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        end = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file() and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)
        status = run.wait(timeout=120)
    said = (tmp_path / "output").read_text()
    assert status == 128 + signal.SIGINT, said
    assert "Stopped at step" in said
    assert "Error" not in said
    assert "Traceback" not in said
