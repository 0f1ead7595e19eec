"""Plots of a study: a metric over one setting, and over two."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from dml.analysis.slices import Slice, is_numeric, slices
from dml.analysis.study import Cell, Part
from dml.analysis.trials import as_number
from dml.reporting.content import Panel
from dml.reporting.figures import Bands, bands_svg
from dml.reporting.study_tables import named

GREY_LINES = 40  # of other settings behind a plot
FILLED = 0.8  # share of its places that a heat map must have


class HeatMap(NamedTuple):
    """Values of two settings: the heads of rows and columns, and in each place a text and its shade in [0, 1]."""

    title: str
    across: list[str]
    rows: list[tuple[str, list[tuple[str, float | None]]]]


def line(part: Part, key: str) -> Iterator[Panel]:
    """The metric over a numeric setting: the longest slice with its bands, the others in grey."""
    found = [(one, drawn) for one in slices(part, [key]) if (drawn := points(one))]
    if not found:
        return
    (main, cells), *others = found
    x, y = [number for number, _ in cells], [cell.estimates[part.metric].mean for _, cell in cells]
    main_line = [(x, y, bands([cell for _, cell in cells], part.metric))] if len(cells) > 1 else []
    rest = others[:GREY_LINES] if main_line else found
    grey = [([n for n, _ in c], [cell.estimates[part.metric].mean for _, cell in c]) for _, c in rest]
    if main_line or len({x for xs, _ in grey for x in xs}) > 2:
        title = f"{named(part.metric)} over {key}" + (at(main) if main_line else "")
        if null := main.cells.get(("null",)):
            title += f"; with null {null.estimates[part.metric].mean:.4f}"
        yield Panel(title, Markup(bands_svg(main_line, grey, key, named(part.metric))))


def at(one: Slice) -> str:
    """Where a slice lies."""
    return f" at {', '.join(f'{key}={value}' for key, value in one.fixed.items())}" if one.fixed else ""


def points(one: Slice) -> list[tuple[float, Cell]]:
    """The cells of a slice by their number; those without one, and those that collapsed, are left out."""
    numbered = ((as_number(value), cell) for (value,), cell in one.cells.items())
    drawn = ((x, cell) for x, cell in numbered if x is not None and not cell.is_collapsed)
    return sorted(drawn, key=lambda item: item[0])


def bands(cells: Sequence[Cell], metric: str) -> Bands:
    """The interval over test classes and the spread over seeds, where all cells have them."""
    found = [cell.estimates[metric] for cell in cells]
    drawn = {}
    if all(estimate.interval for estimate in found):
        low, high = zip(*(estimate.interval or (0.0, 0.0) for estimate in found), strict=True)
        drawn["95%, test classes"] = low, high
    if all(estimate.sd is not None for estimate in found):
        spread = [(e.mean - (e.sd or 0.0), e.mean + (e.sd or 0.0)) for e in found]
        low, high = zip(*spread, strict=True)
        drawn["± sd over seeds"] = low, high
    return drawn


def heat_map(part: Part, down: str, across: str) -> Iterator[HeatMap]:
    """The metric over two settings that are both numbers, or both names: the largest slice."""
    if is_numeric(part, down) != is_numeric(part, across):
        return
    one = slices(part, [down, across])[0]
    heads = [ordered([key[place] for key in one.cells]) for place in (0, 1)]
    if min(map(len, heads)) < 2 or len(one.cells) < FILLED * len(heads[0]) * len(heads[1]):
        return
    mean = {key: cell.estimates[part.metric].mean for key, cell in one.cells.items()}
    scale = [mean[key] for key, cell in one.cells.items() if not cell.is_collapsed] or [0.0]
    low, width = min(scale), max(scale) - min(scale) or 1.0

    def place(row: str, column: str) -> tuple[str, float | None]:
        value = mean.get((row, column))
        return ("–", None) if value is None else (f"{value:.3f}", max(0.0, (value - low) / width))

    rows = [(row, [place(row, column) for column in heads[1]]) for row in heads[0]]
    yield HeatMap(f"{named(part.metric)}: {down} down, {across} across{at(one)}", heads[1], rows)


def ordered(values: Sequence[str]) -> list[str]:
    """Each value once: numbers ascending, then names as they come."""
    numbers = {value: as_number(value) for value in values}
    return sorted(numbers, key=lambda value: float("inf") if (x := numbers[value]) is None else x)
