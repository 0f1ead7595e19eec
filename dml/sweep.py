"""The table at the end of a sweep."""

import csv
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table


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
    """All columns in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def write_csv(rows: list[dict[str, Any]], file: Path) -> None:
    """All figures to their last digit."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns_of(rows))
        writer.writeheader()
        writer.writerows(rows)


def print_trials(rows: list[dict[str, Any]], title: str) -> None:
    """The columns that differ between trials, and the metrics."""
    names = [
        name for name in columns_of(rows) if len({str(row.get(name)) for row in rows}) > 1 or len(rows) == 1
    ]
    table = Table(*names)
    for row in rows:
        cells = (row.get(name, "–") for name in names)
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells))
    print(title)
    Console().print(table)


class SweepTable(Callback):
    """Prints a multirun's trials, sorted by Recall@1, and writes them beside the trials as `sweep.csv`."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = read_trials(folder)
        write_csv(rows, folder / "sweep.csv")
        print_trials(rows, f"{len(rows)} trials, best Recall@1 first")
        print(folder)
