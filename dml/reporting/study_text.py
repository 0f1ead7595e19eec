"""Tables of a study in text: printed, Markdown, LaTeX."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich import table as rich_table
from rich.console import Console

from dml.analysis.comparison_tables import BOOKTABS, Row, latex, markdown
from dml.runs.failures import whole_file


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


def print_table(table: Table) -> None:
    """Print a table; the last columns are left out where the terminal has no room for them."""
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
    print(f"\n{table.title}")
    console.print(shown)
    if header[width:]:
        print(f"Left out for want of room, and in study.md: {', '.join(header[width:])}.")


def write_markdown(file: Path, tables: Iterable[Table], notes: Sequence[str]) -> None:
    """Write the tables, and what a reader has to know."""
    blocks = [f"{table.title}\n\n{markdown(table.rows)}" for table in tables]
    write_text(file, "\n\n".join([*blocks, *notes]))


def write_latex(file: Path, tables: Iterable[Table]) -> None:
    """Write the tables."""
    write_text(file, "\n\n".join([BOOKTABS, *(f"% {table.title}\n{latex(table.rows)}" for table in tables)]))


def write_text(file: Path, text: str) -> None:
    """Write a text, whole or not at all; names of files may hold bytes that are no text."""
    with whole_file(file) as part:
        part.write_bytes(f"{text}\n".encode("utf-8", "replace"))
