"""The folder of a run: a new one for every run; an earlier run's results are moved to `older/`."""

import os
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from dml.errors import note, permitted

# What tests write.
OF_A_TEST = (
    *("metrics.json", "queries.csv", "retrievals.png", "roc.csv", "roc.png"),
    *("report.json", "report.html", "embeddings.npy", "embeddings.parquet"),
)
# Of a study of `dml.tune`: Optuna's record, and its name there.
STUDY_FILE, STUDY_NAME = "study.db", "dml"
WAIT = timedelta(seconds=60)


@cache
def new_folder(pattern: str) -> str:
    """Create a folder that no other run has, and return its path; the same one on all processes of the run.

    Processes that Lightning starts are given the path. Those of torchrun read what the first one created from
    torchrun's store. Those of a SLURM step have the job and the step in the name.

    Args:
        pattern: path with `strftime` fields, such as `outputs/%H-%M-%S`. Where it is taken, `-2`, `-3`, … follow.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return _from_torchrun(pattern)
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        start = float(os.environ.get("SLURM_JOB_START_TIME", time.time()))
        job = f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
        return f"{datetime.fromtimestamp(start).strftime(pattern)}-{job}"
    return str(create(Path(datetime.now().strftime(pattern))))


def _from_torchrun(pattern: str) -> str:
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=WAIT)
    # Processes that torchrun starts again after a failure find the folder of their first start.
    if os.environ["RANK"] == "0" and not store.check([pattern]):
        store.set(pattern, str(create(Path(datetime.now().strftime(pattern)))))
    return store.get(pattern).decode()


def create(path: Path) -> Path:
    """Create the first of `path`, `path-2`, `path-3`, … that does not exist; two processes never get the same."""
    folder, number = path, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = path.with_name(f"{path.name}-{number}")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a checkpoint is one of the run's own, so that the run resumes in its folder."""
    return path.resolve().parent == (folder / "checkpoints").resolve()


def set_aside(folder: str | Path, names: Iterable[str]) -> None:
    """Move an earlier run's files, if there are any, to the same paths in the folder's `older`, `older-2`, …"""
    found = [name for name in names if (Path(folder) / name).exists()]
    if not found:
        return
    with permitted():
        older = create(Path(folder) / "older")
        for name in found:
            (older / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(folder) / name, older / name)
    note(f"{folder} held an earlier run's {', '.join(found)}: moved to {older}.")
