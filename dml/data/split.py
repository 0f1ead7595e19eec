"""A dataset: labelled images in a class-disjoint split, its counts and its fingerprint."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dml.errors import UserError


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
        train: training images.
        query: test images that search.
        gallery: test images that are searched; None where the queries search one another.
        official: fingerprints of the published list of images, one a layout; none where it is not known here.
    """

    classes: Sequence[str]
    train: Samples
    query: Samples
    gallery: Samples | None = None
    official: Sequence[str] = ()


LENGTH = 12


def fingerprint(split: Split) -> str:
    """12 hexadecimal digits that two splits share if they have the same images, class names and roles.

    The SHA-256 of the sorted lines (role, name of the image, name of its class). Where the data lie, the
    order in which the file system lists them, how classes are numbered, and pixels make no difference.
    """
    lines = [*_lines("train", split.train), *_lines("query", split.query)]
    if split.gallery is not None:
        lines += _lines("gallery", split.gallery)
    named = sorted(f"{role}\0{name}\0{split.classes[label]}" for role, name, label in lines)
    text = "".join(f"{line}\n" for line in named)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:LENGTH]


def _lines(role: str, samples: Samples) -> list[tuple[str, str, int]]:
    return [(role, name, label) for name, label in zip(samples.names, samples.labels.tolist(), strict=True)]


def describe(name: str, split: Split) -> str:
    """Images and classes of either side and, on a second line, the split's fingerprint and what it says."""
    size, found = count(split), fingerprint(split)
    if not split.official:
        verdict = "no official fingerprint is known here"
    elif found in split.official:
        verdict = "the official list"
    else:
        verdict = f"NOT the official list, {' or '.join(split.official)}"
    gallery = f" that search a gallery of {size.gallery_images:,}" if split.gallery else ""
    return (
        f"{name}: {size.train_images:,} training images of {size.train_classes:,} classes, "
        f"{size.query_images:,} test images{gallery} of {size.test_classes:,} other classes.\n"
        f"Split fingerprint: {found} ({verdict})"
    )


class Counts(NamedTuple):
    """Size of a benchmark; gallery and query share the test classes."""

    train_classes: int
    test_classes: int
    train_images: int
    query_images: int
    gallery_images: int = 0


def count(split: Split) -> Counts:
    """How many classes and images a split has."""
    gallery = split.gallery.labels if split.gallery else split.query.labels[:0]
    return Counts(
        len(np.unique(split.train.labels)),
        len(np.union1d(split.query.labels, gallery)),
        len(split.train),
        len(split.query),
        len(gallery),
    )


def check_counts(split: Split, counts: Counts, dataset: str, root: Path) -> Split:
    """The split, if it is the published one.

    Raises:
        UserError: a number of classes or images differs.
    """
    found = count(split)
    wrong = [
        f"{have:,} {name.replace('_', ' ')} instead of {want:,}"
        for name, have, want in zip(Counts._fields, found, counts, strict=True)
        if have != want
    ]
    if wrong:
        raise UserError(
            f"{dataset} in {root} has {', '.join(wrong)}: this copy is not whole or not the benchmark, "
            "get it again."
        )
    return split


def classes_on_both_sides(split: Split) -> list[str]:
    """Names of the classes with images in training and in query or gallery."""
    test = (
        split.query.labels if split.gallery is None else np.union1d(split.query.labels, split.gallery.labels)
    )
    return [str(split.classes[label]) for label in np.intersect1d(split.train.labels, test)]
