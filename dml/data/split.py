"""What a dataset is to the rest of the package: labelled images on the two sides of a class-disjoint split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Samples:
    """Labelled images of one role.

    Attributes:
        images: N files, or an array of uint8 images (N, H, W) or (N, H, W, 3) for sets that live in memory.
        labels: (N,) int64, positions in the dataset's list of classes.
        names: N strings that identify the images wherever the data lie (paths relative to the dataset's root).
    """

    images: Sequence[Path] | np.ndarray
    labels: np.ndarray
    names: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.labels) == len(self.names):
            raise ValueError(
                f"{len(self.images)} images, {len(self.labels)} labels and {len(self.names)} names do not match."
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Split:
    """A dataset split by class.

    Attributes:
        classes: names of all classes, training and test; labels are positions in it.
        train: images to learn from.
        query: test images that search.
        gallery: test images that are searched; None where the queries search one another.
    """

    classes: Sequence[str]
    train: Samples
    query: Samples
    gallery: Samples | None = None
