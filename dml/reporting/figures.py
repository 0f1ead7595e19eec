"""Plots of a report as SVG that stands inside HTML and reads on light and dark pages."""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

GREY, RIGHT, WRONG, BLUE = "#8a8f98", "#0ca678", "#e8590c", "#4c8dff"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay text: small, searchable, and in the page's own colour
    "svg.hashsalt": "dml",  # the same plot has the same bytes
    "font.size": 8,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}
WITHOUT_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
Points = tuple[Sequence[float], Sequence[float]]
Bands = Mapping[str, Points]
Curve = tuple[str, str, Sequence[float], Sequence[float]]  # label, colour, x, y


@matplotlib.rc_context(STYLE)
def curves_svg(curves: Sequence[Curve], x_label: str, marks: bool = False) -> str:
    """Lines over one x axis.

    Args:
        curves: label, colour, x and y of each; no legend for a single one.
        x_label: of the axis, whose values are whole numbers.
        marks: a dot at each value.
    """
    figure, axis = _axes(x_label)
    for label, colour, x, y in curves:
        axis.plot(x, y, color=colour, label=label, marker="o" if marks else None, markersize=3)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if len(curves) > 1:
        axis.legend()
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def histogram_svg(histogram: Mapping[str, Sequence[float]]) -> str:
    """Shares of the positives and of the negatives in bins of similarity."""
    figure, axis = _axes("cosine similarity")
    for kind, colour in (("negative", WRONG), ("positive", RIGHT)):
        axis.stairs(histogram[kind], histogram["edges"], fill=True, color=colour, alpha=0.35)
        axis.stairs(histogram[kind], histogram["edges"], color=colour, label=f"{kind} pairs", linewidth=1.4)
    axis.set_ylabel("share of pairs")
    axis.legend()
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def weights_svg(weights: Mapping[str, Any]) -> str:
    """Weight of a positive and of a negative against its similarity; ticks are the anchor's fixed pairs."""
    figure, axis = _axes("similarity of the pair")
    for kind, colour in (("positive", RIGHT), ("negative", WRONG)):
        axis.plot(weights["similarity"], weights[kind], color=colour, label=kind)
        bottom = axis.get_xaxis_transform()
        axis.vlines(weights[f"{kind}_row"], 0, 0.04, transform=bottom, color=colour, linewidth=0.8)
    axis.set_xlim(-1, 1)
    axis.set_ylabel("weight |∂ℓ/∂S|")
    axis.legend()
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def bands_svg(line: Points, bands: Bands, others: Sequence[Points], x_label: str, y_label: str) -> str:
    """Values over a setting, with bands around them; other lines in grey.

    Args:
        line: x and y; empty where there are grey lines alone.
        bands: lower and upper ends by their name, the widest first.
        others: x and y of each grey line; of a single value, a dot.
        x_label: of the axis; logarithmic where the values crowd at its lower end.
        y_label: of the axis.
    """
    figure, axis = _axes(x_label)
    for grey_x, grey_y in others:
        axis.plot(grey_x, grey_y, color=GREY, alpha=0.45, linewidth=0.8, marker="o", markersize=2.5)
    for alpha, (label, (low, high)) in zip((0.13, 0.3), bands.items(), strict=False):
        axis.fill_between(line[0], low, high, color=BLUE, alpha=alpha, linewidth=0, label=label)
    axis.plot(*line, color=BLUE, marker="o", markersize=3)
    all_x = {value for x, _ in (line, *others) for value in x}
    if min(all_x) > 0 and median(all_x) - min(all_x) < (max(all_x) - min(all_x)) / 4:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    axis.set_ylabel(y_label)
    if bands:
        axis.legend()
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def bars_svg(values: Mapping[str, float], x_label: str) -> str:
    """A bar for each name, the first at the top."""
    figure, axis = _axes(x_label)
    names = list(values)[::-1]
    axis.barh(names, [values[name] for name in names], color=BLUE, height=0.6)
    axis.grid(axis="y", visible=False)
    return _svg(figure)


def _axes(x_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 2.5), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(x_label)
    return figure, axis


def _svg(figure: Figure) -> str:
    """The figure as an element without what only a file of its own needs."""
    with StringIO() as stream:
        figure.savefig(stream, format="svg", transparent=True, metadata=WITHOUT_METADATA)
        svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    # Groups are named alike in each plot, and an id may stand in a page once; comments repeat the text.
    return re.sub(r' id="[\w.]+_\d+"|<!--.*?-->', "", svg)
