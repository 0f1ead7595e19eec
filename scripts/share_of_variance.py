"""How much of a sweep's spread each of two overrides explains, and how much only both together do.

    python scripts/share_of_variance.py multirun/2026-01-31/12-00-00 --rows mining --columns weighting
    python scripts/share_of_variance.py multirun/… --rows mining --columns weighting --without logistic hardest

A two-way analysis of variance with equally many trials in each cell: the sums of squares of the rows' means, of the
columns' means, of what the cells' means add to both (interaction) and of the trials about their cell's mean (seeds),
each as a share of the total (η²; Fisher, Statistical Methods for Research Workers, 1925, chapter VII).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from summarize_sweep import METRICS, Entries, crossed, markdown, read

PARTS = ("interaction", "seeds")


def shares(trials_RCn: Float[np.ndarray, "R C n"]) -> list[float]:
    """Shares of rows, columns, interaction and seeds in the sum of squares, adding up to 1."""
    count_R, count_C, count_n = trials_RCn.shape
    cell_RC = trials_RCn.mean(axis=2)
    row_R, column_C, mean = cell_RC.mean(axis=1), cell_RC.mean(axis=0), cell_RC.mean()
    squares = [
        count_C * count_n * ((row_R - mean) ** 2).sum(),
        count_R * count_n * ((column_C - mean) ** 2).sum(),
        count_n * ((cell_RC - row_R[:, None] - column_C + mean) ** 2).sum(),
        ((trials_RCn - cell_RC[..., None]) ** 2).sum(),
    ]
    return [float(part / sum(squares)) for part in squares]


def full_grid(entries: Entries, metric: str) -> Float[np.ndarray, "R C n"]:
    """The trials of every cell.

    Raises:
        ValueError: a cell is missing, or has more or fewer trials than others.
    """
    down, across = (sorted({key[place] for key in entries}) for place in (0, 1))
    counts = {
        len(entries[row, column][metric]) if (row, column) in entries else 0
        for row in down
        for column in across
    }
    if len(counts) != 1 or min(len(down), len(across)) < 2:
        raise ValueError(
            f"The shares need a full grid of at least 2×2, each cell with equally many trials, but the {len(down)}×"
            f"{len(across)} cells have {', '.join(map(str, sorted(counts)))}."
        )
    return np.array([[entries[row, column][metric] for column in across] for row in down])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the shares of each metric as a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders of sweeps, each with a sweep.csv")
    parser.add_argument("--rows", required=True, help="one override, e.g. mining")
    parser.add_argument("--columns", required=True, help="the other, e.g. weighting")
    parser.add_argument("--without", nargs="*", default=[], help="values of either to leave out")
    asked = parser.parse_args(arguments)
    try:
        trials = read(asked.folders)
        kept = [t for t in trials if not {t.get(asked.rows), t.get(asked.columns)} & set(asked.without)]
        entries = crossed(kept, asked.rows, asked.columns)
        table = [
            [name, *(f"{share:.1%}" for share in shares(full_grid(entries, metric)))]
            for metric, name in METRICS.items()
        ]
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"Error: {error}")
    print(markdown(["share of the variance", asked.rows, asked.columns, *PARTS], table))


if __name__ == "__main__":
    main()
