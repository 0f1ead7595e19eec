"""ROC curves with a logarithmic axis of false accepts."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from dml.retrieval.verification import Roc

COLOURS = {"test": "#1864ab", "raw pixels": "#868e96"}


def plot_roc(curves: Mapping[str, Roc]) -> Figure:
    """One step curve a network, from the FAR of a single pair to 1; dotted: chance."""
    negatives = next(iter(curves.values())).negatives
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        far = np.maximum(curve.far, 0.5 / negatives)  # a FAR of 0 has no place on the axis
        axes.step(far, curve.tar, where="post", color=COLOURS.get(name), label=f"{name}, AUC {curve.auc:.4f}")
    chance = np.geomspace(0.5 / negatives, 1, 200)
    axes.plot(chance, chance, ":", color="black", linewidth=1, label="chance")
    axes.set(xscale="log", xlim=(0.5 / negatives, 1), ylim=(0, 1.01))
    axes.set_xlabel(f"false accept rate, of {negatives:,} different pairs")
    axes.set_ylabel("true accept rate")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(loc="lower right")
    return figure
