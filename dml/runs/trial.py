"""A trial of a sweep in processes of its own.

Lightning starts a run's further processes by repeating the command line. In a sweep each of them would begin the whole
sweep again, and a trial that crashed would leave the others waiting.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from omegaconf import DictConfig

from dml.runs.report import write_metrics


def on_several_devices(config: DictConfig) -> bool:
    """Whether the trainer may take more than one process."""
    trainer = config.trainer
    return trainer.devices != 1 or trainer.num_nodes != 1


def run_apart(overrides: list[str], folder: Path) -> None:
    """Run one trial as a command of its own; a failure is noted in the trial's `metrics.json` and no more.

    Args:
        overrides: the trial's own, as on the command line.
        folder: the trial's, in which no earlier `metrics.json` is left.
    """
    quoted = str(folder).replace("'", r"\'")
    command = [sys.executable, "-m", "dml.train", *overrides, f"hydra.run.dir='{quoted}'"]
    # A session of its own: whatever the trial starts can be found and ended with it.
    process = subprocess.Popen(
        command, start_new_session=True, env=without_ranks(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    last_words = LastWords(process.stderr)
    last_words.start()
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        end_session(process.pid)
        last_words.join()
    if code != 0 or not (folder / "metrics.json").is_file():
        write_metrics(
            folder, {"error": f"{last_words.line.removeprefix('Error: ') or 'no message'} (exit code {code})"}
        )


class LastWords(threading.Thread):
    """Passes a stream on to stderr and keeps its last line."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self.stream, self.line = stream, ""

    def run(self) -> None:
        for line in self.stream:
            sys.stderr.write(line)
            self.line = line.strip() or self.line


def without_ranks() -> dict[str, str]:
    """This process's environment, without what would make the trial one of several processes already."""
    ranks = {"LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK"}
    return {key: value for key, value in os.environ.items() if key not in ranks}


def end_session(leader: int) -> None:
    """End what is left of the processes that a session's leader started; nothing may be."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
