"""The table at the end of a sweep."""

import csv
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from dml.errors import printed_notes
from dml.runs.folder import set_aside
from dml.runs.report import readable

TEST, RECALL = "test/", "test/recall_at_"


def read_trial(folder: Path, overrides: Iterable[str], name: str) -> dict[str, Any]:
    """A trial's row: its name, its overrides, its test metrics or its error."""
    parts = (override.partition("=") for override in overrides)
    row: dict[str, Any] = {"trial": name, **{key: value for key, _, value in parts}}
    file = folder / "metrics.json"
    figures = json.loads(file.read_text()) if file.is_file() else {"error": "did not finish"}
    return row | {key: value for key, value in figures.items() if key.startswith(TEST) or key == "error"}


def read_trials(sweep: Path) -> list[dict[str, Any]]:
    """The rows of all trials in a sweep's folder, however deep."""
    files = sorted(sweep.rglob(".hydra/overrides.yaml"))
    return [
        read_trial(file.parents[1], map(str, OmegaConf.load(file)), os.path.relpath(file.parents[1], sweep))
        for file in files
    ]


def best_first(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by Recall@1, the best first and failed ones last; among equals, in the order in which they ran."""
    return sorted(rows, key=lambda row: -row.get("test/recall_at_1", -1.0))


def columns_of(rows: list[dict[str, Any]]) -> list[str]:
    """All columns: the trial's number and overrides, Recall@1, Recall@K by K, the other metrics, the error."""
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=_place)


def _place(column: str) -> tuple[int, int]:
    """What columns are sorted by; those that agree in it stay in the order in which they first appear."""
    if column.startswith(RECALL):
        return 1, int(column.removeprefix(RECALL))
    return (2 if column.startswith(TEST) else 3 if column == "error" else 0), 0


def write_csv(rows: list[dict[str, Any]], file: Path) -> None:
    """All figures to their last digit."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns_of(rows))
        writer.writeheader()
        writer.writerows(rows)


def print_trials(rows: list[dict[str, Any]], title: str) -> None:
    """The overrides that differ between trials, as many metrics as the terminal has room for, and all errors."""
    names = [name for name in columns_of(rows) if name.startswith(TEST) or _differs(name, rows)]
    console = Console()
    shown, needed = len(names), sum(not name.startswith(TEST) for name in names) + 1
    while shown > needed and _width(console, _table(rows, names[:shown])) > console.width:
        shown -= 1
    print(title)
    console.print(_table(rows, names[:shown]))
    if shown < len(names):
        print(f"Left out for want of room, and in sweep.csv: {', '.join(map(_heading, names[shown:]))}.")
    for row in rows:
        if "error" in row:
            print(f"Trial {row['trial']} failed: {row['error'].splitlines()[0]}")


def _differs(name: str, rows: list[dict[str, Any]]) -> bool:
    """Whether a column that is no metric says anything; errors are sentences, too long for a column."""
    return name != "error" and (len(rows) == 1 or len({str(row.get(name)) for row in rows}) > 1)


def _table(rows: list[dict[str, Any]], names: list[str]) -> Table:
    table = Table()
    for name in names:
        table.add_column(_heading(name), overflow="fold")  # whatever is too wide is broken, never cut
    for row in rows:
        cells = ((name, row.get(name, "–")) for name in names)
        table.add_row(
            *(readable(name, cell) if isinstance(cell, float) else str(cell) for name, cell in cells)
        )
    return table


def _width(console: Console, table: Table) -> int:
    """Characters that the table takes if nothing in it is broken."""
    return Measurement.get(console, console.options.update(max_width=sys.maxsize), table).maximum


def _heading(name: str) -> str:
    return name.removeprefix(TEST)


class SweepTable(Callback):
    """Prints a multirun's trials, sorted by Recall@1, writes them as `sweep.csv`, and exits with 1 if one failed."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with printed_notes():
            set_aside(config.hydra.sweep.dir, ["sweep.csv"])

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Read a trial's figures when it ends: another trial may have been given the same folder."""
        assert job_return.cfg is not None
        if config.hydra.mode == RunMode.MULTIRUN:
            name = os.path.relpath(config.hydra.runtime.output_dir, config.hydra.sweep.dir)
            self.rows.append(read_trial(Path(job_return.cfg.run_dir), job_return.overrides or [], name))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        # A launcher that runs trials in processes of its own tells this one nothing of them.
        rows = best_first(self.rows or read_trials(folder))
        write_csv(rows, folder / "sweep.csv")
        print_trials(rows, f"{len(rows)} trials, best Recall@1 first")
        print(folder)
        if any("error" in row for row in rows):
            sys.exit(1)
