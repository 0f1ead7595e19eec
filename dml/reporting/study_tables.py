"""Tables of a study: of cells, and of two settings across each other."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dml.analysis.slices import slices
from dml.analysis.study import MAP, RECALL, Cell, Estimate, Interval, Part
from dml.analysis.trials import rounded
from dml.errors import UserError
from dml.reporting.content import readable
from dml.runs.tables import Row, write_csv

NONE = "–"


def named(metric: str) -> str:
    """A metric as people write it."""
    kind, _, bare = metric.partition("/")
    return readable(bare) if kind == "test" else f"validation {readable(bare.removeprefix('best_'))}"


def shown_metrics(part: Part) -> list[str]:
    """The metric that cells are sorted by, and Recall@1 and MAP@R of the test, where there are such."""
    measured = {name for cell in part.cells for name in cell.estimates}
    return [part.metric, *(m for m in (RECALL, MAP) if m in measured and m != part.metric)]


def listing(part: Part) -> list[Row]:
    """Header and a row for each cell, the best first; columns that would be empty are left out."""
    rows = [_texts(cell, part) for cell in part.cells]
    names = [name for name in rows[0] if any(row.get(name, NONE) != NONE for row in rows)]
    body = (
        (*map(rounded, cell.settings), *(row.get(n, NONE) for n in names))
        for cell, row in zip(part.cells, rows, strict=True)
    )
    return [(*part.keys, *names), *body]


def _texts(cell: Cell, part: Part) -> dict[str, str]:
    main, *others = shown_metrics(part)
    texts = {named(main): spread(own)} if (own := cell.estimates.get(main)) else {}
    if own:
        behind = own.mean - part.cells[0].estimates[main].mean
        texts |= {
            "95% interval": brackets(own.interval),
            "published": NONE if own.published is None else f"{own.published:.3f}",
            "Δ": delta(own),
            "− best": f"{behind:+.4f} {brackets(own.behind)}" if own.behind else NONE,
        }
    texts |= {named(m): spread(cell.estimates[m], count=False) for m in others if m in cell.estimates}
    collapsed = f"{cell.collapsed} of {len(cell.trials)}" if cell.collapsed else NONE
    return texts | {"collapsed": collapsed, "steps": steps(cell), "hours": hours(cell)}


def spread(estimate: Estimate, count: bool = True) -> str:
    """Mean ± standard deviation over seeds (number of them)."""
    sd = "" if estimate.sd is None else f" ± {estimate.sd:.4f}"
    return f"{estimate.mean:.4f}{sd}" + (f" ({len(estimate.values)})" if count else "")


def brackets(interval: Interval | None) -> str:
    """An interval's ends."""
    return NONE if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def delta(estimate: Estimate) -> str:
    """Difference from the published figure, and whether another seed might explain it."""
    if estimate.delta is None:
        return NONE
    if estimate.noise is None:
        return f"{estimate.delta:+.4f} (one seed)"
    verdict = "within" if abs(estimate.delta) <= estimate.noise else "beyond"
    return f"{estimate.delta:+.4f} {verdict} ±{estimate.noise:.4f}"


def steps(cell: Cell) -> str:
    """Training steps of its trials."""
    counts = sorted({int(t.figures["steps"]) for t in cell.trials if "steps" in t.figures})
    return f"{counts[0]:,}" + (f"–{counts[-1]:,}" if len(counts) > 1 else "") if counts else NONE


def hours(cell: Cell) -> str:
    """Mean wall-clock time of a trial."""
    known = [trial.hours for trial in cell.trials if trial.hours is not None]
    return f"{sum(known) / len(known):.2f}" if known else NONE


def crossed(part: Part, rows: str, columns: str, metric: str) -> list[Row]:
    """One setting down, another across; rows and columns by their best cell.

    Raises:
        UserError: one of the two does not vary, or another setting does and would be mixed up.
    """
    if missing := [key for key in (rows, columns) if key not in part.keys]:
        raise UserError(
            f"{missing[0]} is the same in all trials: the settings that vary are {', '.join(part.keys) or 'none'}."
        )
    if others := [key for key in part.keys if key not in (rows, columns)]:
        raise UserError(f"{', '.join(others)} varies, too: give only folders in which it does not.")
    cells = slices(part, (rows, columns))[0].cells
    down, across = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))

    def text(row: str, column: str) -> str:
        cell = cells.get((row, column))
        return spread(cell.estimates[metric]) if cell and metric in cell.estimates else NONE

    header = (f"{rows} \\ {columns}", *map(rounded, across))
    return [header, *((rounded(row), *(text(row, column) for column in across)) for row in down)]


def write_cells(file: Path, parts: Sequence[Part]) -> None:
    """Write all digits of every metric, a row for each cell and metric."""
    rows = [row for part in parts for cell in part.cells for row in _digits(part, cell)]
    keys = [key for part in parts for key in part.keys]
    columns = list(dict.fromkeys([*keys, *rows[0]]))
    write_csv(file, columns, ([row.get(name) for name in columns] for row in rows))


def _digits(part: Part, cell: Cell) -> Iterator[dict[str, Any]]:
    for metric, found in cell.estimates.items():
        low, high = found.interval or (None, None)
        behind_low, behind_high = found.behind or (None, None)
        yield {
            **dict(zip(part.keys, cell.settings, strict=True)),
            **{"metric": metric, "mean": found.mean, "sd": found.sd, "n": len(found.values)},
            **{"low": low, "high": high, "behind_low": behind_low, "behind_high": behind_high},
            **{"published": found.published, "delta": found.delta, "noise": found.noise},
            **{"steps": steps(cell), "hours": hours(cell), "collapsed": cell.collapsed},
            **part.ground._asdict(),
            "trials": " ".join(trial.name for trial in cell.trials),
        }
