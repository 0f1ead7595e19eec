"""Write a balanced list of pairs of the test classes of a folder, in CPLFW's format.

    python scripts/make_pairs.py data/att_faces pairs.txt
    python -m dml.evaluate ckpt_path=… protocol=verification dataset.pairs=pairs.txt dataset.root=data/att_faces

The classes are those that `dataset=folder` tests on. Each belongs to one of ten folds, so no person is in two of them.
Every fold has as many pairs of the same class as of different ones, drawn without repetition, the same number in each.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from dml.data.datasets.folder import load
from dml.data.pairs import FOLDS
from dml.errors import UserError

Pairs = list[tuple[str, str]]


def pairs_of(names: Sequence[str], labels: np.ndarray) -> tuple[Pairs, Pairs]:
    """All pairs of the same class and all of different ones."""
    pairs: tuple[Pairs, Pairs] = ([], [])
    for i, j in combinations(range(len(names)), 2):
        pairs[int(labels[i] != labels[j])].append((names[i], names[j]))
    return pairs


def pair_lines(names: Sequence[str], labels: np.ndarray, seed: int, folds: int = FOLDS) -> list[str]:
    """Lines of the list: in each fold the pairs of the same class, then the others.

    Args:
        names: of the images.
        labels: (N,) their classes, at least two a fold.
        seed: of the classes' order and the pairs drawn.
        folds: number of folds.

    Raises:
        UserError: too few classes, or a fold without pairs of either kind.
    """
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(labels))
    if len(classes) < 2 * folds:
        raise UserError(f"{folds} folds need {2 * folds} test classes, two each; there are {len(classes)}.")
    parts = [np.flatnonzero(np.isin(labels, part)) for part in np.array_split(classes, folds)]
    pairs = [kind for part in parts for kind in pairs_of([names[i] for i in part], labels[part])]
    if (size := min(map(len, pairs))) == 0:
        raise UserError("A fold has no class with two images: give its classes more of them.")
    drawn = [kind[n] for kind in pairs for n in np.sort(rng.permutation(len(kind))[:size])]
    labelled = zip(drawn, np.tile(np.repeat([1, 0], size), folds), strict=True)
    return [f"{name} {label}" for pair, label in labelled for name in pair]


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Write the list; returns what is wrong with the folder, if anything is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder of class folders")
    parser.add_argument("pairs", type=Path, help="file to write")
    parser.add_argument(
        "--test-share", type=float, help="as dataset.test_share: the last half where not given"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        query = load(given.root, given.test_share).query
        lines = pair_lines(query.names, query.labels, given.seed)
    except UserError as error:
        return f"Error: {error}"
    given.pairs.write_text("\n".join(lines) + "\n")
    print(
        f"{given.pairs}: {len(lines) // 2:,} pairs of {len(np.unique(query.labels))} classes in {FOLDS} folds."
    )
    return None


if __name__ == "__main__":
    sys.exit(main())
