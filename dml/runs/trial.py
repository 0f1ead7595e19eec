"""One run, or one trial of a sweep: a trial that fails is a row of the sweep's table, and the sweep goes on."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from dml.distributed import is_first_process
from dml.errors import UserError
from dml.runs.report import write_metrics
from dml.runs.wandb_names import sweep_group

log = logging.getLogger(__name__)

ASKED_EVERY = 0.5  # seconds between two looks at a trial that may be stopped
# What would make the trial one of several processes already.
RANKS = {"LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK"}


@contextmanager
def trial(config: DictConfig) -> Iterator[bool]:
    """Inside, do one run; then its folder is printed. In a sweep, what it raises is noted in its `metrics.json`.

    Yields:
        whether the run is to be done in processes of its own, by `run_apart`.
    """
    folder = Path(config.run_dir)
    in_sweep, before = HydraConfig.get().mode == RunMode.MULTIRUN, written(folder)
    apart = in_sweep and (config.trainer.devices != 1 or config.trainer.num_nodes != 1)
    if in_sweep:
        config.overwrite = True  # the sweep's folder was checked: what is in a trial's is another trial's
    try:
        yield apart
    except Exception as error:
        if not in_sweep:
            raise
        if not isinstance(error, UserError):
            log.exception("This trial failed; the sweep continues.")
        if is_first_process():
            note_failure(folder, f"{type(error).__name__}: {error}", before)
    if is_first_process() and not apart:
        print(folder)


def note_failure(folder: Path, error: str, before: int | None = None) -> None:
    """Write why a trial failed to its `metrics.json`, beside its figures if they are already there.

    A file that was `written` before the trial began, at `before`, is another trial's.
    """
    file = folder / "metrics.json"
    figures = json.loads(file.read_text()) if written(folder) not in (None, before) else {}
    write_metrics(folder, figures | {"error": error})


def written(folder: Path) -> int | None:
    """When a folder's `metrics.json` was written, in ns; None where there is none."""
    file = folder / "metrics.json"
    return file.stat().st_mtime_ns if file.is_file() else None


def run_apart(
    command: str, overrides: list[str], folder: Path, stop: Callable[[], str | None] = lambda: None
) -> None:
    """Run one trial as a command of its own; a failure is noted in the trial's `metrics.json` and no more.

    Lightning starts a run's further processes by repeating the command line. In a sweep each of them would begin the
    whole sweep again, and a trial that crashed would leave the others waiting.

    Args:
        command: such as "dml.train".
        overrides: as on the command line.
        folder: the trial's, in which no earlier `metrics.json` is left.
        stop: asked while the trial runs; a reason ends it, as a failure would, after its step.
    """
    quoted = str(folder).replace("'", r"\'")
    env = {key: value for key, value in os.environ.items() if key not in RANKS}
    if group := sweep_group():
        env.setdefault("WANDB_RUN_GROUP", group)  # the command knows of no sweep
    process = subprocess.Popen(
        [sys.executable, "-m", command, *overrides, f"hydra.run.dir='{quoted}'", "hydra.mode=RUN"],
        start_new_session=True,  # so that whatever the trial starts can be ended with it
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    last_line = said = ""

    def pass_on() -> None:
        nonlocal last_line, said
        for line in process.stderr or ():
            sys.stderr.write(line)
            last_line = line.strip() or last_line
            if line.startswith("Error: "):
                said = line.strip().removeprefix("Error: ")

    reader = Thread(target=pass_on, daemon=True)
    reader.start()
    why = None
    try:
        while process.poll() is None and why is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(ASKED_EVERY)
            why = stop()
        if why is not None:
            process.terminate()
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        with suppress(ProcessLookupError):  # nothing may be left of the session
            os.killpg(process.pid, signal.SIGKILL)
        reader.join()
    if why is not None:
        note_failure(folder, why)
    elif code != 0 or not (folder / "metrics.json").is_file():
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        words = said or (last_line if code >= 0 else "")
        note_failure(folder, f"{words} ({how})" if words else how)
