"""Tables of a comparison: printed, Markdown, CSV, LaTeX."""

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dml.analysis.comparison import Figure, letter
from dml.runs.failures import whole_file

Row = tuple[str, ...]
BOOKTABS = r"% needs \usepackage{booktabs}"


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


def markdown(table: Sequence[Row]) -> str:
    """A table, its first row the header, as Markdown."""
    lines = [table[0], ("---",) * len(table[0]), *table[1:]]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in lines)


def latex(table: Sequence[Row]) -> str:
    """A table, its first row the header, as a LaTeX tabular with the rules of booktabs."""
    header, *body = [" & ".join(map(_latex, row)) + r" \\" for row in table]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(table[0]) - 1)}}}",
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


LATEX = {
    **{ord(sign): rf"\{sign}" for sign in "_%&#${}"},
    **{ord(sign): f"${sign}$" for sign in "+<>|"},
    **dict.fromkeys(map(ord, "−-"), "$-$"),
    ord("\\"): r"\textbackslash{}",
    ord("^"): r"\^{}",
    ord("~"): r"\~{}",
    ord("±"): r"$\pm$",
    ord("×"): r"$\times$",
    ord("Δ"): r"$\Delta$",
    ord("–"): "--",
}


def _latex(cell: str) -> str:
    """A cell in LaTeX."""
    return cell.translate(LATEX)


def write_markdown(file: Path, table: Sequence[Row], title: str) -> None:
    """Write the table and its title as Markdown."""
    with whole_file(file) as part:
        part.write_text(f"{title}\n\n{markdown(table)}\n", encoding="utf-8")


def write_latex(file: Path, table: Sequence[Row]) -> None:
    """Write the table as LaTeX."""
    with whole_file(file) as part:
        part.write_text(f"{BOOKTABS}\n{latex(table)}\n")


def write_csv(file: Path, figures: Sequence[Figure], folders: Sequence[Path]) -> None:
    """Write all digits of every figure, a row for each metric and run."""
    with (
        whole_file(file) as part,
        part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as s,
    ):
        writer = csv.writer(s)
        writer.writerow([*Figure._fields, "verdict", "folder"])
        writer.writerows([*f, f.verdict, folders[f.run]] for f in figures)
