"""The figures of a run: `metrics.json` and the printed table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dml.retrieval.audit import WHY
from dml.runs.failures import whole_file

PROTOCOLS = {
    "paper": "the best checkpoint was chosen on the test classes, as in the papers",
    "holdout": "the best checkpoint was chosen on held-out training classes; the test classes were seen once",
}
BOOTSTRAP = "over the choice of test classes"


def write_metrics(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write `metrics.json`, keys sorted, floats to their last digit; the file is whole or not there."""
    name = "test/queries_without_positives"
    if name in figures:
        figures = {**figures, "test/queries_left_out": figures[name]}  # the old name, for one version
    with whole_file(folder / "metrics.json") as part:
        part.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")


def print_figures(title: str, figures: Mapping[str, Any], own: str, intervals: str = BOOTSTRAP) -> None:
    """Print the test's figures, as in `metrics.json`, in the column `own` beside those of the baselines."""
    test = {name.removeprefix("test/"): m for name, m in figures.items() if name.startswith("test/")}
    columns = {**figures["baselines"], "test": test}
    table = Table("metric", *figures["baselines"], own)
    for metric in dict.fromkeys(name for column in columns.values() for name in column):
        table.add_row(
            metric,
            *(
                readable(metric, column[metric], figures["intervals"].get(f"{name}/{metric}"))
                if metric in column
                else "–"
                for name, column in columns.items()
            ),
        )
    print(title)
    Console().print(table)
    if figures["intervals"]:
        print(f"In brackets 95% intervals, {intervals}; another seed is not in them.")
    if figures.get("collapsed"):
        print(
            "COLLAPSED: the test embeddings hardly differ, so these figures are no result, and metrics.json says so. "
            "Lower optimizer.lr, or try another loss or mining."
        )


def readable(metric: str, value: float, interval: Sequence[float] | None = None) -> str:
    """A figure for a table: four digits and the interval's three, or a whole number where the metric counts queries."""
    ends = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{value:,.0f}" if "queries_" in metric else f"{value:.4f}{ends}"


def print_audit(columns: Mapping[str, Mapping[str, float]]) -> None:
    """Print the metrics under each convention, and what differs and why."""
    here, *others = columns
    table = Table("metric", *columns)
    for metric in columns[here]:
        cells = [f"{column[metric]:.4f}" if metric in column else "" for column in columns.values()]
        table.add_row(metric, *cells)
    print("\nThe same embeddings under other conventions of the field")
    Console().print(table)
    for name in others:
        changed = any(columns[name][metric] != columns[here][metric] for metric in columns[name])
        print(f"- {name}: {WHY[name] if changed else 'changes nothing here.'}")
