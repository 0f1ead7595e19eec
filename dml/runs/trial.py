"""A trial of a sweep in processes of its own.

Lightning starts a run's further processes by repeating the command line. In a sweep each of them would begin the whole
sweep again, and a trial that crashed would leave the others waiting.
"""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from threading import Thread

from dml.runs.report import write_metrics
from dml.runs.wandb_names import sweep_group

# What would make the trial one of several processes already.
RANKS = {"LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK"}


def note_failure(folder: Path, error: str, before: int | None = None) -> None:
    """Write why a trial failed to its `metrics.json`, beside its figures if they are already there.

    Args:
        folder: the trial's.
        error: what is noted.
        before: `written` when the trial began. The file of that moment is another trial's.
    """
    file = folder / "metrics.json"
    figures = json.loads(file.read_text()) if written(folder) not in (None, before) else {}
    write_metrics(folder, figures | {"error": error})


def written(folder: Path) -> int | None:
    """When a folder's `metrics.json` was written, in ns; None where there is none."""
    file = folder / "metrics.json"
    return file.stat().st_mtime_ns if file.is_file() else None


def run_apart(overrides: list[str], folder: Path) -> None:
    """Run one trial as a command of its own; a failure is noted in the trial's `metrics.json` and no more.

    Args:
        overrides: the trial's own, as on the command line.
        folder: the trial's, in which no earlier `metrics.json` is left.
    """
    quoted = str(folder).replace("'", r"\'")
    env = {key: value for key, value in os.environ.items() if key not in RANKS}
    if group := sweep_group():
        env.setdefault("WANDB_RUN_GROUP", group)  # the command knows of no sweep
    process = subprocess.Popen(
        [sys.executable, "-m", "dml.train", *overrides, f"hydra.run.dir='{quoted}'"],
        start_new_session=True,  # so that whatever the trial starts can be ended with it
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    last_words, errors = deque([""], maxlen=1), deque([""], maxlen=1)

    def pass_on() -> None:
        for line in process.stderr or ():
            sys.stderr.write(line)
            last_words.extend([line.strip()] if line.strip() else [])
            errors.extend([line.strip().removeprefix("Error: ")] if line.startswith("Error: ") else [])

    reader = Thread(target=pass_on, daemon=True)
    reader.start()
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        with suppress(ProcessLookupError):  # nothing may be left of the session
            os.killpg(process.pid, signal.SIGKILL)
        reader.join()
    if code != 0 or not (folder / "metrics.json").is_file():
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        words = errors[0] or (last_words[0] if code >= 0 else "")
        note_failure(folder, f"{words} ({how})" if words else how)
