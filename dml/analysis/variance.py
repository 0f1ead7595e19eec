"""Which settings a study's spread comes from: shares of the variance."""

from itertools import product

import numpy as np
from jaxtyping import Float

from dml.analysis.study import Part


def shares(value_Xn: Float[np.ndarray, "*X n"]) -> list[float]:
    """Shares of the variance of each setting, of what only several do together, and of the seeds; they add up to 1.

    η² of an analysis of variance with equally many trials in each cell: the squares of each setting's means about the
    grand mean, of what the cells' means add to those (interaction), and of the trials about their cell's mean.
    Source: Fisher, Statistical Methods for Research Workers, 1925, chapter VII.

    Args:
        value_Xn: an axis for each setting, and last one for the n trials of a cell.
    """
    settings = range(value_Xn.ndim - 1)
    cell_X, mean, size = value_Xn.mean(axis=-1), value_Xn.mean(), value_Xn.size
    own = [
        float(((cell_X.mean(axis=tuple(a for a in settings if a != axis)) - mean) ** 2).mean())
        for axis in settings
    ]
    between = float(((cell_X - mean) ** 2).mean())
    total = float(((value_Xn - mean) ** 2).sum()) / size
    if total == 0:
        return [0.0] * (len(own) + 2)
    return [part / total for part in (*own, between - sum(own), total - between)]


def grid(part: Part, metric: str) -> Float[np.ndarray, "*X n"] | None:
    """The values of a full grid of settings, each cell with equally many trials; None where it is none."""
    values = {c.settings: c.estimates[metric].values for c in part.cells if metric in c.estimates}
    levels = [list(dict.fromkeys(settings[axis] for settings in values)) for axis in range(len(part.keys))]
    combinations = list(product(*levels))
    sizes = {len(values.get(settings, ())) for settings in combinations}
    if len(sizes) != 1 or 0 in sizes or len(combinations) < 2:
        return None
    return np.array([values[settings] for settings in combinations]).reshape(*map(len, levels), -1)


def shares_of(part: Part, metric: str) -> dict[str, float]:
    """Shares by setting, `interaction` and `seeds`; empty where the cells are no full grid.

    With one trial a cell the seeds' share is not known: it is in the interaction.
    """
    value_Xn = grid(part, metric)
    if value_Xn is None or (len(part.keys) == 1 and value_Xn.shape[-1] == 1):
        return {}
    found = dict(zip([*part.keys, "interaction", "seeds"], shares(value_Xn), strict=True))
    if len(part.keys) == 1:
        del found["interaction"]
    if value_Xn.shape[-1] == 1:
        found["interaction and seeds"] = found.pop("interaction")
        del found["seeds"]
    return found
