"""Tables of a comparison."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dml.analysis.comparison import Figure, letter
from dml.runs.tables import Row, write_csv


def rows(figures: Sequence[Figure], runs: int) -> list[Row]:
    """Header and rows of the wide table: a metric, each run's mean, each difference from the first run's."""
    names = [*map(letter, range(runs))]
    header = ("metric", *names, *(f"{name} − {names[0]}" for name in names[1:]))
    table = [header]
    for start in range(0, len(figures), runs):
        own = figures[start : start + runs]
        table.append((own[0].metric, *map(_mean, own), *(f"{_difference(f)} {f.verdict}" for f in own[1:])))
    return table


def _mean(figure: Figure) -> str:
    return f"{figure.value:.4f} [{figure.low:.3f}, {figure.high:.3f}]"


def _difference(figure: Figure) -> str:
    return f"{figure.difference:+.4f} [{figure.difference_low:.3f}, {figure.difference_high:.3f}]"


def print_figures(figures: Sequence[Figure], runs: int, title: str) -> None:
    """Print a row for each metric and run, which fits a terminal whatever the number of runs."""
    names = [*map(letter, range(runs))]
    table = Table("metric", "run", "mean", f"− {names[0]}", "")
    for figure in figures:
        first, last = figure.run == 0, figure.run == runs - 1
        difference = "" if first else _difference(figure)
        verdict = figure.verdict.replace("undecided", "")  # 80 columns have no room for it
        cells = names[figure.run], _mean(figure), difference, verdict
        table.add_row(figure.metric if first else "", *cells, end_section=last)
    print(title)
    Console().print(table)


def write_figures(file: Path, figures: Sequence[Figure], folders: Sequence[Path]) -> None:
    """Write all digits of every figure, a row for each metric and run."""
    rows = ([*f, f.verdict, folders[f.run]] for f in figures)
    write_csv(file, [*Figure._fields, "verdict", "folder"], rows)
