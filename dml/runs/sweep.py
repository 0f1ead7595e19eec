"""The table at the end of a sweep."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from dml.runs.report import readable

TEST, RECALL = "test/", "test/recall_at_"


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """One row a trial: its number, its overrides, its test metrics or error; best Recall@1 first, failed ones last."""
    rows = []
    for overrides_file in folder.glob("*/.hydra/overrides.yaml"):
        trial = overrides_file.parents[1]
        overrides = (str(entry).partition("=") for entry in OmegaConf.load(overrides_file))
        row: dict[str, Any] = {"trial": trial.name, **{key: value for key, _, value in overrides}}
        metrics_file = trial / "metrics.json"
        figures = (
            json.loads(metrics_file.read_text()) if metrics_file.is_file() else {"error": "did not finish"}
        )
        row |= {name: value for name, value in figures.items() if name.startswith("test/") or name == "error"}
        rows.append(row)
    return sorted(rows, key=lambda row: (-row.get("test/recall_at_1", -1.0), row["trial"]))


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
    """Prints a multirun's trials, sorted by Recall@1, and writes them beside the trials as `sweep.csv`."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = read_trials(folder)
        write_csv(rows, folder / "sweep.csv")
        print_trials(rows, f"{len(rows)} trials, best Recall@1 first")
        print(folder)
