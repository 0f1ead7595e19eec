"""The figures of a run: `metrics.json` and the printed table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dml.runs.failures import whole_file

PROTOCOLS = {
    "paper": "the best checkpoint was chosen on the test classes, as in the papers",
    "holdout": "the best checkpoint was chosen on held-out training classes; the test classes were seen once",
}


def write_metrics(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write `metrics.json`, keys sorted, floats to their last digit; the file is whole or not there."""
    name = "test/queries_without_positives"
    if name in figures:
        figures = {**figures, "test/queries_left_out": figures[name]}  # the old name, for one version
    with whole_file(folder / "metrics.json") as part:
        part.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")


def print_table(
    title: str,
    columns: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> None:
    """Print one column of figures beside the other, a row for each metric that any of them has.

    Args:
        title: the line above the table.
        columns: metrics by the columns' names.
        intervals: of some of these metrics, [low, high].
    """
    table = Table("metric", *columns)
    for metric in dict.fromkeys(name for column in columns.values() for name in column):
        cells = []
        for name, column in columns.items():
            interval = (intervals or {}).get(name, {}).get(metric)
            cells.append(readable(metric, column[metric], interval) if metric in column else "–")
        table.add_row(metric, *cells)
    print(title)
    Console().print(table)
    if intervals:
        print("In brackets 95% intervals, by a bootstrap over the test classes; another seed is not in them.")


def say_collapsed(collapsed: Mapping[str, bool]) -> None:
    """Say below the table that its figures are none, if so."""
    if collapsed:
        print(
            "COLLAPSED: the test embeddings hardly differ, so these figures are no result, and metrics.json says so. "
            "Lower optimizer.lr, or try another loss or mining."
        )


def readable(metric: str, value: float, interval: Sequence[float] | None = None) -> str:
    """A figure for a table: four digits and the interval's three, or a whole number where the metric counts queries."""
    ends = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{value:,.0f}" if "queries_" in metric else f"{value:.4f}{ends}"


def without_prefix(metrics: Mapping[str, float], stage: str) -> dict[str, float]:
    """The metrics of one stage, "val" or "test", by their bare names."""
    return {name.removeprefix(f"{stage}/"): m for name, m in metrics.items() if name.startswith(f"{stage}/")}


def interval_figures(intervals: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """The intervals of several columns for `metrics.json`: `{"intervals": {"test/recall_at_1": [low, high], …}}`."""
    flat = {f"{name}/{metric}": ends for name, column in intervals.items() for metric, ends in column.items()}
    return {"intervals": flat}
