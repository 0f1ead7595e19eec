"""A folder for each run that no other has, and nothing of an earlier run in the way or lost."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from dml.errors import Note
from dml.runs.folder import create, set_aside

ASK = "from dml.runs.folder import new_folder; print(new_folder('outputs/run'))"


def asked(folder: Path, *environments: dict[str, str]) -> list[str]:
    """The folders that processes with these environments are given, each started before any has ended."""
    path = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], cwd=folder, env=path | own, stdout=subprocess.PIPE, text=True
        )
        for own in environments
    ]
    return [process.communicate()[0].strip() for process in processes]


def test_of_many_at_once_each_creates_its_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: create(tmp_path / "day" / "run"), range(8)))
    assert sorted(folder.name for folder in folders) == ["run", *(f"run-{n}" for n in range(2, 9))]
    assert all(folder.is_dir() for folder in folders)


def test_processes_of_one_slurm_step_share_a_folder_and_jobs_that_start_together_do_not(tmp_path):
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_START_TIME": "1700000000", "SLURM_STEP_ID": "0"}
    first, second, other = asked(
        tmp_path,
        step | {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"},
        step | {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1"},
        step | {"SLURM_JOB_ID": "8", "SLURM_PROCID": "0"},
    )
    assert first == second == "outputs/run-7.0"
    assert other == "outputs/run-8.0"
    alone = {"SLURM_JOB_START_TIME": "1700000000", "SLURM_STEP_NUM_TASKS": "1"}
    assert sorted(asked(tmp_path, alone, alone)) == ["outputs/run", "outputs/run-2"]


def test_processes_of_torchrun_share_a_folder_also_when_started_again(tmp_path):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    agent = {
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
    }
    (tmp_path / "outputs" / "run").mkdir(parents=True)  # someone else's
    ranks = [agent | {"RANK": rank} for rank in ("0", "1")]
    assert asked(tmp_path, *ranks) == ["outputs/run-2"] * 2
    assert asked(tmp_path, ranks[0]) == ["outputs/run-2"]


def test_what_is_set_aside_keeps_its_place_and_is_never_overwritten(tmp_path):
    for number in ("1", "2"):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / "checkpoints" / "last.ckpt").write_text(number)
        with pytest.warns(Note, match=r"earlier run's checkpoints/last\.ckpt: moved to"):
            set_aside(tmp_path, ["metrics.json", "checkpoints/last.ckpt"])
    older = [(tmp_path / name / "checkpoints" / "last.ckpt").read_text() for name in ("older", "older-2")]
    assert older == ["1", "2"]
    set_aside(tmp_path, ["metrics.json", "checkpoints/last.ckpt"])
    assert not (tmp_path / "older-3").exists()
