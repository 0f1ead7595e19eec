"""One page, and tables, of a study: `study.html`, `.csv`, `.md` and `.tex`."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from dml.analysis.slices import is_numeric
from dml.analysis.study import Part, has_queries
from dml.analysis.trials import Trial
from dml.analysis.variance import shares_of
from dml.reporting.content import Panel
from dml.reporting.render import write_page
from dml.reporting.study_plots import HeatMap, heat_map, line
from dml.reporting.study_tables import crossed, listing, named, shown_metrics, write_cells
from dml.reporting.tuning import tuning_panels
from dml.runs.folder import STUDY_FILE
from dml.runs.tables import BOOKTABS, Row, Table, latex, markdown, print_table, write_text

CELL = (
    "A row is one cell: the trials that agree in all settings but the seed. Figures are the mean ± standard deviation "
    "over seeds (number of seeds)."
)
INTERVAL = (
    "In brackets 95% intervals over the choice of test classes, of the mean over seeds; another seed is not in them. "
    "“− best” is the difference from the first row, on the same resamples of classes: where its interval leaves out 0, "
    "other test classes would hardly turn the order round."
)
NOISE = (
    "Δ is ours minus the published figure. “Within”: one more run with another seed may lie so far from our mean (95% "
    "prediction interval, t · sd · √(1 + 1/n)). Both are taken to be of the same test classes, so their choice is no "
    "noise."
)
SEEDS = (
    "Not all cells have the same seeds, so a difference can be that of the seeds: run the missing ones, or report the "
    "trials of the common seeds alone."
)
SHARES = "shares of the variance of all trials (η²): each setting, what only several do together, the seeds"


class Section(NamedTuple):
    """A part of a study as it is shown."""

    title: str
    part: Part
    tables: list[Table]
    lines: list[Panel]
    maps: list[HeatMap]


def section(part: Part, rows: str | None, columns: str | None) -> Section:
    """A part with its tables and plots.

    Args:
        part: of a study.
        rows, columns: the settings to cross; None lists the cells.

    Raises:
        UserError: the two cannot be crossed.
    """
    title = f"{part.ground.dataset}, protocol {part.ground.protocol}, split {part.ground.fingerprint}"
    tables = [Table(title, listing(part), len(part.keys) + 1)]
    if rows and columns:
        both = ((named(m), crossed(part, rows, columns, m)) for m in shown_metrics(part))
        tables = [Table(f"{title}: {name}", table, len(table[0])) for name, table in both]
    if shares := variance(part):
        tables.append(Table(f"{title}: {SHARES}", shares, len(shares[0])))
    return Section(
        title,
        part,
        tables,
        [panel for key in part.keys if is_numeric(part, key) for panel in line(part, key)],
        [found for pair in combinations(part.keys, 2) for found in heat_map(part, *pair)],
    )


def notes(parts: Sequence[Part]) -> Iterator[str]:
    """What a reader of the tables has to know."""
    cells = [cell for part in parts for cell in part.cells]
    trials = [trial for cell in cells for trial in cell.trials]
    yield CELL
    if any(found.interval for cell in cells for found in cell.estimates.values()):
        yield INTERVAL
    if any(
        len({frozenset(trial.seed for trial in cell.trials) for cell in part.cells}) > 1 for part in parts
    ):
        yield SEEDS
    if without := sum(not has_queries(trial) for trial in trials):
        yield f"{without} of {len(trials)} trials have no queries.csv: their cells have no intervals."
    if published := [cell.trials[0].published for cell in cells if cell.trials[0].published]:
        sources = dict.fromkeys(str(figures.get("source", "no source is named")) for figures in published)
        yield f"Published: {'; '.join(sources)}. {NOISE}"
    if repeated := [trial.name for part in parts for trial in part.repeated]:
        yield f"Left out, since an earlier trial has the same settings and the same seed: {', '.join(repeated)}."
    if collapsed := [trial.name for trial in trials if trial.collapsed]:
        yield f"Collapsed trials, whose figures are no result but count above: {', '.join(collapsed)}."


def variance(part: Part) -> list[Row]:
    """Header and a row for each metric; empty where the cells are no full grid."""
    found = {named(m): of for m in shown_metrics(part) if (of := shares_of(part, m))}
    body = [(name, *(f"{round(share, 3) or 0:.1%}" for share in of.values())) for name, of in found.items()]
    return [("metric", *next(iter(found.values()))), *body] if found else []


def failed(trials: Sequence[Trial]) -> list[str]:
    """What went wrong, and in which trials."""
    names: dict[str, list[str]] = {}
    for trial in trials:
        names.setdefault(trial.error, []).append(trial.name)
    return [f"Left out: {', '.join(found)}: {error}" for error, found in names.items() if error]


def mixture(parts: Sequence[Part]) -> str:
    """A warning where figures of several datasets, protocols or splits came together; else empty."""
    if len(parts) < 2:
        return ""
    kinds = [
        f"{len(values)} {name}s"
        for name in parts[0].ground._fields
        if len(values := {getattr(part.ground, name) for part in parts}) > 1
    ]
    return (
        f"NOT COMPARABLE: these trials have {' and '.join(kinds)}. Each has a table of its own; a figure of one says "
        "nothing beside a figure of another."
    )


def write_study(
    folder: Path, shown: Sequence[Section], trials: Sequence[Trial], studies: Sequence[Path]
) -> Path:
    """Write `study.html`, `.csv`, `.md` and `.tex`, then print the tables; returns the page.

    `trials` are all, those that failed too, and `studies` the folders that were given.
    """
    parts = [one.part for one in shown]
    warning, said, left_out = mixture(parts), list(notes(parts)), failed(trials)
    remarks = [line for line in (warning, *said, *left_out) if line]
    content = {
        "title": ", ".join(study.resolve().name for study in studies),
        "sections": shown,
        "named": named,
        "notes": said,
        "trials": trials,
        "failed": left_out,
        "warning": warning,
        "cells": sum(len(part.cells) for part in parts),
        "hours": sum(trial.hours or 0.0 for trial in trials),
        "tuning": [p for study in studies if (study / STUDY_FILE).is_file() for p in tuning_panels(study)],
    }
    write_cells(folder / "study.csv", parts)
    tables = [table for one in shown for table in one.tables]
    texts = [f"{table.title}\n\n{markdown(table.rows)}" for table in tables]
    write_text(folder / "study.md", "\n\n".join([*texts, *remarks]))
    texts = [f"% {table.title}\n{latex(table.rows)}" for table in tables]
    write_text(folder / "study.tex", "\n\n".join([BOOKTABS, *texts]))
    page = write_page(folder / "study.html", "study.html", content)
    for table in tables:
        print()
        print_table(table, "study.md")
    print("", *remarks, sep="\n")
    return page
