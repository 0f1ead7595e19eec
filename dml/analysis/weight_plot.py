"""Plots of pair weights."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml.analysis.weight_curves import Row, WeightCurves

COLOURS = {"positive": "#2b8a3e", "negative": "#c92a2a"}


def plot_weights(curves: Mapping[str, WeightCurves], row: Row) -> Figure:
    """One panel per loss: weights against similarity; ticks at the bottom are the fixed pairs of the row."""
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (name, curve) in zip(axes, curves.items(), strict=False):
        draw(axis, curve, row)
        axis.set_title(name)
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    axes[0].legend(frameon=False)
    figure.supxlabel("similarity of the pair")
    figure.supylabel("weight |∂ℓ/∂S|")
    return figure


def draw(axis: Axes, curve: WeightCurves, row: Row) -> None:
    """Draw both curves of a loss."""
    row_R = row.similarity()
    for kind, weight, ticks, height in (
        ("positive", curve.positive, row_R[: row.positives], 0.05),
        ("negative", curve.negative, row_R[row.positives :], 0.025),
    ):
        axis.plot(curve.similarity, weight, color=COLOURS[kind], label=kind)
        at = axis.get_xaxis_transform()
        axis.vlines(ticks, 0, height, transform=at, color=COLOURS[kind], linewidth=0.8)
    axis.set_xlim(-1, 1)
    axis.set_ylim(bottom=-0.08 * max(curve.positive.max().item(), curve.negative.max().item(), 1e-9))
    axis.spines[["top", "right"]].set_visible(False)
