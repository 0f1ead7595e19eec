"""Plots of a study: a metric over one setting, and over two."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from dml.analysis.slices import Slice, is_numeric, slices
from dml.analysis.study import Estimate, Part
from dml.analysis.trials import as_number, rounded
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
    found = [(one, drawn) for one in slices(part, [key]) if (drawn := points(one, part.metric))]
    if not found:
        return
    curves = [([x for x, _ in drawn], [estimate.mean for _, estimate in drawn]) for _, drawn in found]
    main, drawn = found[0]
    if len(drawn) > 1:
        blue, *grey = curves[: 1 + GREY_LINES]
        around, where = bands([estimate for _, estimate in drawn]), at(main)
    elif len({x for xs, _ in curves for x in xs}) > 2:
        blue, grey, around, where = ([], []), curves, {}, ""
    else:
        return
    title = f"{named(part.metric)} over {key}{where}"
    if null := main.cells.get(("null",)):
        title += f"; with null {null.estimates[part.metric].mean:.4f}"
    yield Panel(title, Markup(bands_svg(blue, around, grey, key, named(part.metric))))


def at(one: Slice) -> str:
    """Where a slice lies."""
    return (
        f" at {', '.join(f'{key}={rounded(value)}' for key, value in one.fixed.items())}" if one.fixed else ""
    )


def points(one: Slice, metric: str) -> list[tuple[float, Estimate]]:
    """The values of a slice by their number; cells without one, and those that collapsed, are left out."""
    numbered = ((as_number(value), cell) for (value,), cell in one.cells.items())
    drawn = [(x, cell.estimates[metric]) for x, cell in numbered if x is not None and not cell.is_collapsed]
    return sorted(drawn, key=lambda item: item[0])


def bands(found: Sequence[Estimate]) -> Bands:
    """The interval over test classes and the spread over seeds, where all values have them."""
    intervals = [one.interval for one in found if one.interval]
    spreads = [(one.mean - one.sd, one.mean + one.sd) for one in found if one.sd is not None]
    drawn = {}
    for name, ends in (("95%, test classes", intervals), ("± sd over seeds", spreads)):
        if len(ends) == len(found):
            low, high = zip(*ends, strict=True)
            drawn[name] = low, high
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

    rows = [(rounded(row), [place(row, column) for column in heads[1]]) for row in heads[0]]
    title = f"{named(part.metric)}: {down} down, {across} across{at(one)}"
    yield HeatMap(title, [*map(rounded, heads[1])], rows)


def ordered(values: Sequence[str]) -> list[str]:
    """Each value once: numbers ascending, then names as they come."""
    numbers = {value: as_number(value) for value in values}
    return sorted(numbers, key=lambda value: float("inf") if (x := numbers[value]) is None else x)
