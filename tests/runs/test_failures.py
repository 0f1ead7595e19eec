"""A failure of the machine is one sentence; an error of the code stays what it is."""

import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from dml.errors import UserError
from dml.runs.failures import machine_failures, whole_file
from dml.runs.folder import create
from dml.runs.guard import FolderGuard
from dml.runs.loggers import CsvLogger
from dml.runs.report import write_metrics
from dml.runs.trial import note_failure, run_apart, written

MEMORY = r"^Out of memory: lower sampler\.classes_per_batch"
PROCESS = r"^Another process of this run has ended or does not answer \(trainer\.strategy\.timeout"
GLOO = "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp"
FAILURES = [
    (MemoryError(), MEMORY),
    (np._core._exceptions._ArrayMemoryError((9,), np.dtype(int)), MEMORY),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), MEMORY),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), MEMORY),
    (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), MEMORY),
    (RuntimeError("std::bad_alloc"), MEMORY),
    (RuntimeError("could not create a primitive"), MEMORY),
    (ImportError("libfaiss.so: failed to map segment from shared object"), MEMORY),
    (RuntimeError("can't start new thread"), MEMORY),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), MEMORY),
    (RuntimeError("unable to write to file </torch_12_34>: No space left on device (28)"), "/dev/shm"),
    (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible"), "/dev/shm"),
    (
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        r"^A data worker is gone \(killed by",
    ),
    (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), r"^A data worker is gone \(exited"),
    (EOFError(), r"^A connection to a data worker or to another machine is lost \(it ended\)"),
    (RuntimeError("DataLoader timed out after 5 seconds"), r"within 5 seconds.*data\.worker_timeout"),
    (RuntimeError(f"{GLOO}/unbound_buffer.cc:78] Timed out waiting 4000ms for recv operation to"), PROCESS),
    (
        RuntimeError(f"{GLOO}/pair.cc:561] Connection closed by peer [127.0.0.1]:1. This is typically"),
        PROCESS,
    ),
    (RuntimeError(f"{GLOO}/pair.cc:545] Read error [::1]:1: Connection reset by peer. This is typ"), PROCESS),
    (RuntimeError("Gloo connectFullMesh failed with [/…/pair.cc:1] timed out connecting: SO_ERROR"), PROCESS),
    (RuntimeError("[Rank 0]: Rank 1 failed to pass monitoredBarrier in 4000 ms\n Original excepti"), PROCESS),
    (torch.distributed.DistStoreError("Timed out after 10 seconds waiting for clients."), PROCESS),
    (torch.distributed.DistNetworkError("The client socket has timed out; Socket Timeout"), PROCESS),
    (torch.distributed.DistBackendError("NCCL error in: x.cpp:1, remote process exited or"), PROCESS),
    (
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        r"^A connection .* is lost \(.*reset",
    ),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), "^What reads this command's output has ended"),
    (OSError(errno.ENOSPC, "No space left on device"), "no space left on device.*: free some space"),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), "^x cannot be used .*: free some space"),
    (OSError(errno.EROFS, "Read-only file system", "x"), "^x cannot be used .*: change its permissions"),
    (PermissionError(errno.EACCES, "Permission denied", "x"), "^x cannot be used .*: change its permissions"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), "^x cannot be used .*: give another name"),
    (OSError(errno.EIO, "Input/output error"), "cannot be used .*: check that its disk"),
]
OWN = [
    KeyError("x"),
    ImportError("x"),
    ValueError("x"),
    TypeError("x"),
    RuntimeError("shapes differ"),
    RuntimeError("no NCCL timeout is set"),
    RuntimeError("Socket has no attribute timeout"),
    RuntimeError("[enforce fail at /…/gloo/transport/tcp/pair.cc:464] op.preamble.length <= op.nbytes"),
    torch.distributed.DistBackendError("NCCL error in: x.cpp:1, ncclInvalidUsage: Duplicate GPU detected"),
    FileNotFoundError(2, "no"),
]


@pytest.mark.parametrize(("error", "sentence"), FAILURES, ids=lambda case: str(case)[:40])
def test_a_failure_of_the_machine_is_one_sentence(error, sentence):
    with pytest.raises(UserError, match=sentence) as caught, machine_failures():
        raise error
    assert "\n" not in str(caught.value)


class Strike(pl.Callback):
    """Sends the data workers a signal in the third step."""

    def __init__(self, how: str) -> None:
        self.how = getattr(signal, how)

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == 2:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, self.how)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc, prctl")
@pytest.mark.parametrize(
    ("how", "said"),
    [
        # Either is met first: the worker's end, or that the images it passed on can no longer be fetched from it.
        ("SIGKILL", ("Error: A data worker is gone (", "Error: A connection to a data worker ")),
        ("SIGSTOP", ("Error: No data worker delivered a batch within 2",)),
    ],
)
def test_a_data_worker_that_is_killed_or_stopped(tmp_path, typed, how, said):
    strike = f"+callbacks.strike={{_target_:{__name__}.Strike,how:{how}}}"
    loader = ("data.num_workers=1", "data.worker_timeout=2")
    quick = ("trainer=cpu", "model.embedding_dim=8", "dataset.canvas=8")
    done = typed("dml.train", *quick, *loader, strike, f"hydra.run.dir={tmp_path}")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(said)
    assert "resume=auto" in done.err


def test_a_lost_connection_of_several_processes(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(UserError, match=PROCESS), machine_failures():
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_an_error_of_the_code_stays(error):
    with pytest.raises(type(error)) as caught, machine_failures():
        raise error
    assert caught.value is error


@pytest.fixture
def full_disk():
    """No file can grow beyond 1,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_does_not_fit_leaves_the_one_before_it_and_nothing_else(tmp_path, full_disk):
    write_metrics(tmp_path, {"a": 1.0})
    with pytest.raises(UserError, match=r"metrics\.json cannot be used \(file too large\): free some space"):
        write_metrics(tmp_path, {f"key {n}": 1.0 for n in range(100)})
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]
    assert '"a": 1.0' in (tmp_path / "metrics.json").read_text()


def test_metrics_csv_that_does_not_fit(tmp_path, full_disk):
    logger = CsvLogger(str(tmp_path))
    with pytest.raises(UserError, match=r"metrics\.csv cannot be used"):
        [logger.log_metrics({"train/loss": 0.123}, step) for step in range(500)]


def test_an_error_inside_leaves_no_part_either(tmp_path):
    with suppress(KeyError), whole_file(tmp_path / "a") as part:
        part.write_text("half")
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["run", "sweep"])
@pytest.mark.parametrize("where", ["a file", "below a file", "not permitted", "too long", "an interpolation"])
def test_a_run_folder_that_cannot_be(tmp_path: Path, where: str, key: str) -> None:
    OmegaConf.register_new_resolver("create", lambda path: str(create(Path(path))), replace=True)
    (tmp_path / "file").write_text("mine")
    folder = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "run",
        "not permitted": "/sys/run",  # not even by root
        "too long": tmp_path / ("n" * 300),
        "an interpolation": f"${{create:{tmp_path / 'file'}/run}}",
    }[where]
    config = OmegaConf.create({"hydra": {key: {"dir": str(folder)}}, "overwrite": False})
    with pytest.raises(SystemExit, match=rf"^Error: hydra\.{key}\.dir: .* cannot be used \(.*\): .*\.$"):
        (FolderGuard().on_run_start if key == "run" else FolderGuard().on_multirun_start)(config)
    assert (tmp_path / "file").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("does", "error"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("print('frames of torch', file=sys.stderr); os.abort()", "killed by SIGABRT"),
        ("print('Error: no.\\nlater', file=sys.stderr); os.kill(os.getpid(), 9)", "no. (killed by SIGKILL)"),
        ("print('Error: no.\\nlater', file=sys.stderr); sys.exit(1)", "no. (exit code 1)"),
        ("print('KeyError: x', file=sys.stderr); sys.exit(1)", "KeyError: x (exit code 1)"),
        ("pass", "exit code 0"),
    ],
)
def test_a_trial_that_ends_without_figures_says_how(tmp_path, monkeypatch, does, error):
    code = f"import os, signal, sys; {does}"
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **more: real([sys.executable, "-c", code], **more))
    run_apart("dml.train", [], tmp_path)
    assert f'"error": "{error}"' in (tmp_path / "metrics.json").read_text()


def test_figures_of_a_trial_that_fails_after_them_stay(tmp_path, monkeypatch):
    code = "open('metrics.json', 'w').write('{\"test/recall_at_1\": 0.7}'); raise KeyError('x')"
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **more: real([sys.executable, "-c", code], cwd=tmp_path, **more)
    )
    run_apart("dml.train", [], tmp_path)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures == {"error": "KeyError: 'x' (exit code 1)", "test/recall_at_1": 0.7}


def test_a_failure_replaces_the_figures_of_another_trial_and_joins_its_own(tmp_path):
    file = tmp_path / "metrics.json"
    file.write_text('{"test/recall_at_1": 0.5}')
    note_failure(tmp_path, "no", before=written(tmp_path))
    assert json.loads(file.read_text()) == {"error": "no"}
    before = written(tmp_path)
    write_metrics(tmp_path, {"test/recall_at_1": 0.7})
    note_failure(tmp_path, "no", before)
    assert json.loads(file.read_text()) == {"error": "no", "test/recall_at_1": 0.7}


FAMILY = """
import os, subprocess, sys, time
from dml.runs.failures import end_with_parent
end_with_parent()
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"])
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """Even while it is stopped, and the other is killed."""
    (tmp_path / "family.py").write_text(FAMILY)
    environment = {key: value for key, value in os.environ.items() if key != "DML_STARTED_BY"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    run = subprocess.Popen(
        [sys.executable, tmp_path / "family.py"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    pids = {int(run.stdout.readline()) for _ in range(2)}
    [child] = pids - {run.pid}
    os.kill(child, signal.SIGSTOP)
    run.kill()
    assert run.stdout.read() == ""  # returns when both have ended
    run.wait()
