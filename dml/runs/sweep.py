"""The table at the end of a sweep."""

import atexit
import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dml.errors import printed_notes
from dml.runs.folder import set_aside
from dml.runs.report import readable
from dml.runs.tables import Table, print_table, write_csv

TEST, RECALL, COLLAPSED = "test/", "test/recall_at_", "collapsed"


def leave_when_stopped() -> None:
    """Have SIGTERM and SIGHUP end this process as Ctrl-C does, so that what is done is written."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as by nohup
            signal.signal(number, lambda received, frame: sys.exit(128 + received))


def read_trial(folder: Path, overrides: Iterable[str], name: str) -> dict[str, Any]:
    """A trial's row: its name, its overrides, its test metrics, whether it collapsed, its error."""
    parts = (override.partition("=") for override in overrides)
    row: dict[str, Any] = {"trial": name, **{key: value for key, _, value in parts}}
    file = folder / "metrics.json"
    figures = json.loads(file.read_text()) if file.is_file() else {"error": "did not finish"}
    return row | {
        key: value for key, value in figures.items() if key.startswith(TEST) or key in (COLLAPSED, "error")
    }


def read_trials(sweep: Path) -> list[dict[str, Any]]:
    """The rows of all trials in a sweep's folder, however deep."""
    folders = [file.parents[1] for file in sorted(sweep.rglob(".hydra/overrides.yaml"))]
    return [
        read_trial(f, map(str, OmegaConf.load(f / ".hydra/overrides.yaml")), os.path.relpath(f, sweep))
        for f in folders
    ]


def best_first(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by Recall@1, the best first; then collapsed ones, then failed ones. Equal ones stay in order."""

    def place(row: dict[str, Any]) -> tuple[bool, bool, float]:
        recall = row.get(f"{RECALL}1")
        return recall is None, COLLAPSED in row, -(recall or 0.0)

    return sorted(rows, key=place)


def columns_of(rows: list[dict[str, Any]]) -> list[str]:
    """All columns: the trial's name and overrides, `collapsed`, Recall@K by K, the other metrics, the error."""

    def place(name: str) -> tuple[bool, bool, bool, int]:
        k = name.removeprefix(RECALL)
        return (
            name == "error",
            name.startswith(TEST),
            name == COLLAPSED,
            int(k) if k.isdecimal() else sys.maxsize,
        )

    return sorted(dict.fromkeys(name for row in rows for name in row), key=place)


def write_trials(rows: list[dict[str, Any]], file: Path) -> None:
    """All figures to their last digit."""
    columns = columns_of(rows)
    write_csv(file, columns, ([row.get(name) for name in columns] for row in rows))


def print_trials(rows: list[dict[str, Any]], title: str) -> None:
    """The overrides that differ between trials, as many metrics as the terminal has room for, and all errors."""
    names = [name for name in columns_of(rows) if name != "error"]  # too long for a column
    metrics = [name for name in names if name.startswith(TEST)]
    overrides = [name for name in names if name not in metrics]
    if len(rows) > 1:
        overrides = [n for n in overrides if n == COLLAPSED or len({str(row.get(n)) for row in rows}) > 1]
    columns = overrides + metrics
    headings = tuple(name.removeprefix(TEST) for name in columns)
    cells = [tuple(cell(name, row.get(name, "–")) for name in columns) for row in rows]
    keep = len(overrides) + min(len(metrics), 1)
    print_table(Table(title, [headings, *cells], keep), "sweep.csv")
    for row in rows:
        if "error" in row:
            print(f"Trial {row['trial']} failed: {row['error'].splitlines()[0]}")


def cell(name: str, value: Any) -> str:
    """A figure or another value of a trial, as it is printed."""
    return readable(name, value) if isinstance(value, float) else str(value)


class SweepTable(Callback):
    """Prints a multirun's trials, sorted by Recall@1, writes them as `sweep.csv`, and exits with 1 if one failed."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """A sweep that is stopped, or ends by an error, writes the table of what is done."""
        with printed_notes():
            set_aside(config.hydra.sweep.dir, ["sweep.csv"])
        leave_when_stopped()
        atexit.register(self.write, Path(config.hydra.sweep.dir))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Read a trial's figures when it ends: another trial may have been given the same folder."""
        assert job_return.cfg is not None
        if config.hydra.mode == RunMode.MULTIRUN:
            name = os.path.relpath(config.hydra.runtime.output_dir, config.hydra.sweep.dir)
            self.rows.append(read_trial(Path(job_return.cfg.run_dir), job_return.overrides or [], name))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        atexit.unregister(self.write)
        # A launcher that runs trials in processes of its own tells this one nothing of them.
        self.rows = self.rows or read_trials(Path(config.hydra.sweep.dir))
        self.write(Path(config.hydra.sweep.dir))
        if any("error" in row for row in self.rows):
            sys.exit(1)

    def write(self, folder: Path) -> None:
        """Write and print the table, unless no trial is done."""
        if self.rows:
            rows = best_first(self.rows)
            write_trials(rows, folder / "sweep.csv")
            print_trials(rows, f"{len(rows)} trials, best Recall@1 first")
            print(folder)
