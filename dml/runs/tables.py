"""Tables as text: printed, Markdown, LaTeX, CSV."""

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import table as rich_table
from rich.console import Console

from dml.runs.failures import whole_file

Row = tuple[str, ...]
# Names of files may hold bytes that are no text.
TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
BOOKTABS = r"% needs \usepackage{booktabs}"
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


class Table(NamedTuple):
    """A table.

    Attributes:
        title: above it.
        rows: header and rows.
        keep: columns that a narrow terminal does not leave out.
    """

    title: str
    rows: list[Row]
    keep: int


def print_table(table: Table, file: str) -> None:
    """Print a table; the last columns are left out where the terminal has no room for them, but are in `file`."""
    console, header = Console(), table.rows[0]
    unbounded = console.options.update(max_width=sys.maxsize)
    for width in range(len(header), table.keep - 1, -1):
        shown = rich_table.Table()
        for name in header[:width]:
            shown.add_column(name, overflow="fold")
        for row in table.rows[1:]:
            shown.add_row(*row[:width])
        if console.measure(shown, options=unbounded).maximum <= console.width:
            break
    print(table.title)
    console.print(shown)
    if header[width:]:
        print(f"Left out for want of room, and in {file}: {', '.join(header[width:])}.")


def markdown(rows: Sequence[Row]) -> str:
    """Header and rows as a table in Markdown."""
    lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in lines)


def latex(rows: Sequence[Row]) -> str:
    """Header and rows as a LaTeX tabular with the rules of booktabs."""
    header, *body = [" & ".join(cell.translate(LATEX) for cell in row) + r" \\" for row in rows]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}"
    return "\n".join([begin, r"\toprule", header, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"])


def write_csv(file: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table with all digits of every number, whole or not at all."""
    with whole_file(file) as part, part.open("w", **TEXT) as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def write_text(file: Path, text: str) -> None:
    """Write a text, whole or not at all; names of files may hold bytes that are no text."""
    with whole_file(file) as part:
        part.write_bytes(f"{text}\n".encode("utf-8", "replace"))
