"""What a machine does to a run: a full disk, too little memory, a lost process; one sentence, and no process left."""

import ctypes
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dml.errors import UserError, unusable

STARTED_BY = "DML_STARTED_BY"  # process that starts another: the first rank, or a sweep
ENDS_WITH = "DML_ENDS_WITH"  # process with which this one ends
PATIENCE = 10  # seconds that the first process has to end by itself
PR_SET_PDEATHSIG = 1

RESUME = "the same command with resume=auto goes on from the last checkpoint"
SENTENCES = {
    r"Bus error|shared memory|torch_\d+.*No space left": "Shared memory (/dev/shm) is full: lower data.num_workers (0 "
    "needs none), or give the machine or container more of it.",
    # torch knows the signal, unless its connection to the worker breaks first.
    r"DataLoader worker .* (?P<how>killed by signal: \w+|exited unexpectedly)": "A data worker is gone ({how}), "
    f"perhaps for want of memory: lower data.num_workers or the batch; {RESUME}.",
    r"^\[Errno \d+\] Broken pipe": "What reads this command's output has ended, so nothing more can be printed.",
    r"DataLoader timed out after (?P<how>[\d.]+) seconds": "No data worker delivered a batch within {how} seconds: is "
    f"one stopped, or the disk lost? data.worker_timeout=… waits longer; {RESUME}.",
    "failed to map segment|"  # of a library that is imported
    r"an't allocate memory|annot allocate memory|ut of memory|bad_alloc|not enough memory|can't start new thread|"
    r"could not create a (primitive|memory)": (  # of oneDNN
        "Out of memory: lower sampler.classes_per_batch, sampler.images_per_class, data.eval_batch_size, "
        "data.num_workers or the size of the images."
    ),
}
LOST_PROCESS = (
    "Another process of this run has ended or does not answer (trainer.strategy.timeout says how long one waits): "
    f"{RESUME}."
)
# Of gloo, where an error is a RuntimeError like any other. NCCL and torch's store have types of their own.
GLOO = r"gloo/transport/|connectFullMesh|monitoredBarrier|Application timeout caused pair closure"
MISUSE = "ncclInvalid|Duplicate GPU|enforce fail"  # wrong calls, not lost processes


@contextmanager
def machine_failures() -> Iterator[None]:
    """Inside, a failure of the machine is a UserError; errors of the code stay what they are.

    A failure of this kind can leave processes that no longer answer. If this is not the first process of a run that
    Lightning started, the first one gets some seconds to end by itself, which ends this one too; then it is killed.
    """
    try:
        yield
    except UserError:
        raise
    except (EOFError, ImportError, MemoryError, OSError, RuntimeError) as error:
        sentence, lost = explained(error)
        if sentence is None:
            raise
        started = os.environ.get("LOCAL_RANK", "0") != "0" and os.environ.get(ENDS_WITH) == str(os.getppid())
        if lost and started:
            time.sleep(PATIENCE)
            print(f"Error: {sentence}", file=sys.stderr, flush=True)
            os.kill(os.getppid(), signal.SIGKILL)
        raise UserError(sentence) from error


def explained(error: BaseException) -> tuple[str | None, bool]:
    """A sentence on a failure of the machine, or None, and whether another process of the run is lost."""
    if isinstance(error, OSError) and (refused := unusable(error)):
        return str(refused), False
    text = "out of memory" if isinstance(error, MemoryError) else str(error)
    for pattern, sentence in SENTENCES.items():
        if found := re.search(pattern, text):
            return sentence.format(**found.groupdict()), False
    if lost_process(error):
        return LOST_PROCESS, True
    # A connection that ends raises an EOFError without words; that of a file that is cut short has some.
    if isinstance(error, ConnectionError) or (isinstance(error, EOFError) and not text):
        return (
            f"A connection to a data worker or to another machine is lost ({text or 'it ended'}): {RESUME}.",
            False,
        )
    return None, False


def lost_process(error: BaseException) -> bool:
    """Whether torch says that another process of the run is gone or silent."""
    # Not imported here: it takes seconds, and where nothing imported it there is one process.
    if (distributed := sys.modules.get("torch.distributed")) is None or re.search(MISUSE, str(error)):
        return False
    several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    of_torch = isinstance(error, distributed.DistError) or re.search(GLOO, str(error)) is not None
    return of_torch or (several and isinstance(error, ConnectionError))


def end_with_parent() -> None:
    """Have the system kill this process when the one of this package that started it is gone. Linux only.

    A rank that Lightning started ends with the first one, and a sweep's trial with the sweep, however they end.
    """
    parent = os.environ.get(STARTED_BY, str(os.getpid()))
    if parent != str(os.getpid()) and sys.platform == "linux":
        if parent == str(os.getppid()):
            kill_when_orphaned()
            os.environ[ENDS_WITH] = parent
        elif not Path(f"/proc/{parent}").exists():  # it ended before this process came so far
            os._exit(1)
    os.environ[STARTED_BY] = str(os.getpid())


def kill_when_orphaned() -> None:
    """Have the system kill this process when its parent ends; even a stopped one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve_parent(worker: int) -> None:
    """Let a data worker end with its parent, and leave signals to it.

    A terminal's Ctrl-C, `timeout` and SLURM signal all processes of a run. A worker that obeyed would be missed in
    the step that the run still finishes. `end_workers` ends those that hang.
    """
    kill_when_orphaned()

    def say(kind: type[BaseException], *of: Any) -> None:
        """Of a parent that is killed, a thread of multiprocessing may still print that nobody takes its batch."""
        if not issubclass(kind, ConnectionError):
            sys.__excepthook__(kind, *of)

    sys.excepthook = say
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def end_workers() -> None:
    """Kill data workers: at its end Python waits for them, even for one that is stopped."""
    for worker in multiprocessing.active_children():
        worker.kill()


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Inside, write to the file given; then it replaces `path`. If it cannot be written, nothing is left of it."""
    part = Path(f"{path}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise unusable(error, path) or error from None
    finally:
        if part.is_file():
            part.unlink()
