"""The weight of one pair against its own similarity, with the anchor's other pairs fixed: values and plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from dml.analysis.dependence import KINDS, Kind, row_pairs, steady_weights
from dml.errors import UserError
from dml.losses import PairLoss

COLOURS = {"positive": "#2b8a3e", "negative": "#c92a2a"}


@dataclass(frozen=True)
class Row:
    """An anchor's pairs, with similarities evenly spaced over one range per kind.

    Args:
        positives: number of positives, 1 … 10,000.
        negatives: number of negatives, 1 … 10,000.
        positive_range: lowest and highest similarity of the positives, in [−1, 1].
        negative_range: likewise of the negatives.

    Raises:
        UserError: a count is below 1, or a range is descending or outside [−1, 1].
    """

    positives: Annotated[int, Field(ge=1, le=10_000)] = 4
    negatives: Annotated[int, Field(ge=1, le=10_000)] = 75
    positive_range: Sequence[float] = (0.4, 0.8)
    negative_range: Sequence[float] = (-0.2, 0.5)

    def __post_init__(self) -> None:
        if min(self.positives, self.negatives) < 1:
            raise UserError(
                f"row.positives={self.positives} and row.negatives={self.negatives} must be at least 1."
            )
        for kind, (low, high) in (("positive", self.positive_range), ("negative", self.negative_range)):
            if not -1 <= low <= high <= 1:
                raise UserError(
                    f"row.{kind}_range must be ascending and within [-1, 1], not [{low}, {high}]."
                )

    def similarity(self) -> Float[Tensor, "R"]:
        """Similarities of the row, positives first."""
        (low, high), (below, above) = self.positive_range, self.negative_range
        positive = torch.linspace(low, high, self.positives, dtype=torch.float64)
        return torch.cat([positive, torch.linspace(below, above, self.negatives, dtype=torch.float64)])

    def column(self, kind: Kind) -> int:
        """Column of the pair whose similarity varies: the middle one of its kind."""
        return self.positives // 2 if kind == "positive" else self.positives + self.negatives // 2


class WeightCurves(NamedTuple):
    """Weights |∂ℓ_i/∂S_ij| of a positive and of a negative at each of N similarities."""

    similarity: Float[Tensor, "N"]
    positive: Float[Tensor, "N"]
    negative: Float[Tensor, "N"]


def weight_curves(loss: PairLoss, row: Row, points: int = 401) -> WeightCurves:
    """Weights of one pair as its similarity goes from −1 to 1 in N points and the row's other pairs stay fixed."""
    similarity_N = torch.linspace(-1, 1, points, dtype=torch.float64)
    pairs = row_pairs(points, row.positives, row.negatives)
    curves = {}
    for kind in KINDS:
        S_NR = row.similarity().repeat(points, 1)
        S_NR[:, row.column(kind)] = similarity_N
        curves[kind] = steady_weights(loss, S_NR, pairs)[:, row.column(kind)]
    return WeightCurves(similarity_N, **curves)


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
