"""One command at a time in a folder, and none over the results of another, as a person types it."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from dml.config.cli import CONF
from dml.errors import UserError
from dml.runs.guard import RESULTS, FolderGuard, check_unused, lock

HOLD = """
import signal, time
from pathlib import Path
from dml.runs.guard import lock

signal.signal(signal.SIGINT, signal.SIG_DFL)
held = lock(Path("run"), "hydra.run.dir")
print("held", flush=True)
time.sleep(60)
"""
REPOSITORY = Path(__file__).resolve().parents[2]


def command(name: str, folder: Path, *overrides: str) -> DictConfig:
    """What Hydra hands to its callbacks."""
    dirs = [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
    with initialize_config_dir(CONF, version_base="1.3"):
        return hydra_compose(name, [*dirs, *overrides], return_hydra_config=True)


def leave(folder: Path, name: str) -> dict[str, bytes]:
    """A result in a folder; returns all that the folder holds."""
    file = folder / name.replace("*", "best")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("of before")
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file() and f.name != ".lock"}


@pytest.mark.parametrize("of", ["train", "evaluate", "weights"])
def test_no_command_begins_in_a_folder_with_results(tmp_path: Path, of: str) -> None:
    run = tmp_path / "run"
    config, overwriting = command(of, run), command(of, run, "overwrite=true")
    for name in RESULTS:
        before = leave(run, name)
        with pytest.raises(
            SystemExit, match=r"^Error: hydra\.run\.dir=.*run holds .* of an earlier run: give"
        ):
            FolderGuard().on_run_start(config)
        FolderGuard().on_run_start(overwriting)
        assert contents(run) == before
        shutil.rmtree(run)


@pytest.mark.parametrize(
    ("below", "name"), [("", "sweep.csv"), ("0", "metrics.json"), ("digits/0", "checkpoints/*.ckpt")]
)
def test_no_sweep_begins_in_a_folder_with_trials(tmp_path: Path, below: str, name: str) -> None:
    leave(tmp_path / "sweep" / below, name)
    with pytest.raises(SystemExit, match=r"^Error: hydra\.sweep\.dir=.*sweep holds"):
        FolderGuard().on_multirun_start(command("train", tmp_path / "sweep"))
    for allowed in ("overwrite=true", "resume=auto"):
        FolderGuard().on_multirun_start(command("train", tmp_path / "sweep", allowed))


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("resume=auto", True),
        ("ckpt_path=last", True),
        ("ckpt_path={run}/checkpoints/last.ckpt", True),
        ("ckpt_path=/elsewhere/checkpoints/last.ckpt", False),
        ("ckpt_path=null", False),
        ("overwrite=false", False),
        ("overwrite=yes", True),
        ("overwrite=maybe", False),
        ("overwrite=null", False),
        ("overwrite=3", False),
    ],
)
def test_a_training_that_resumes_in_its_folder_begins(tmp_path: Path, override: str, allowed: bool) -> None:
    run = tmp_path / "run"
    leave(run, "checkpoints/last.ckpt")
    config = command("train", run, override.format(run=run))
    if allowed:
        check_unused(run, config)
    else:
        with pytest.raises(UserError, match=r"overwrite=(\w+ must be|true to move)"):
            check_unused(run, config)


def test_evaluating_a_checkpoint_in_its_own_folder_is_no_resuming(tmp_path: Path) -> None:
    leave(tmp_path, "checkpoints/best.ckpt")
    config = command("evaluate", tmp_path, f"ckpt_path={tmp_path}/checkpoints/best.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt of an earlier run: give another folder, or overwrite"):
        check_unused(tmp_path, config)


@pytest.mark.parametrize("name", [".hydra/config.yaml", "train.log", "older/metrics.json", "mine.txt"])
def test_a_folder_without_results_is_free(tmp_path: Path, name: str) -> None:
    leave(tmp_path, name)
    check_unused(tmp_path, OmegaConf.create({"overwrite": False}))


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that works in `run`."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
def test_two_at_once_are_refused_until_the_first_has_ended_however(
    tmp_path: Path, holder: subprocess.Popen[str], ended_by: signal.Signals
) -> None:
    for of, overrides in (("train", ["overwrite=true"]), ("train", ["resume=auto"]), ("evaluate", [])):
        with pytest.raises(SystemExit, match=r"^Error: hydra\.run\.dir=.*run is in use by another process"):
            FolderGuard().on_run_start(command(of, tmp_path / "run", *overrides))
    holder.send_signal(ended_by)
    holder.wait(10)
    FolderGuard().on_run_start(command("train", tmp_path / "run"))


def test_other_processes_of_a_run_share_its_folder(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = command("train", tmp_path / "run")
    for rank in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        with monkeypatch.context() as ranked:
            ranked.setenv(rank, "1")
            FolderGuard().on_run_start(config)


def test_a_forked_child_does_not_keep_the_folder(tmp_path: Path) -> None:
    """As a data worker would, for some seconds after its run was killed."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        held = lock(tmp_path, "hydra.run.dir")
        worker = os.fork()
        if worker == 0:
            signal.pause()
        os.write(write, str(worker).encode())
        os._exit(held.closed)
    os.waitpid(child, 0)
    lock(tmp_path, "hydra.run.dir").close()
    os.kill(int(os.read(read, 20)), signal.SIGKILL)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/sys/run")):
        with pytest.raises(SystemExit, match=rf"^Error: hydra\.run\.dir: {folder} cannot be used"):
            FolderGuard().on_run_start(command("train", folder))


def test_a_launcher_can_send_the_guard_of_a_held_folder_to_other_processes(tmp_path: Path) -> None:
    guard = FolderGuard()
    guard.on_multirun_start(command("train", tmp_path))
    sent = pickle.loads(pickle.dumps(guard))
    assert (sent.key, hasattr(sent, "held")) == ("hydra.run.dir", False)
    assert not guard.held.closed
