"""A dataset: labelled images in a class-disjoint split, its counts and its fingerprint."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dml.errors import UserError


@dataclass(frozen=True)
class Samples:
    """Labelled images of one role.

    Attributes:
        images: N files, or an array of uint8 images (N, H, W) or (N, H, W, 3) for sets that live in memory; or N of
            either, files or arrays (H, W) or (H, W, 3).
        labels: (N,) int64, positions in the dataset's list of classes.
        names: N strings that identify the images wherever the data lie (paths relative to the dataset's root).
    """

    images: Sequence[Path | np.ndarray] | np.ndarray
    labels: np.ndarray
    names: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.labels) == len(self.names):
            raise ValueError(
                f"{len(self.images)} images, {len(self.labels)} labels and {len(self.names)} names do not match."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, chosen: np.ndarray) -> "Samples":
        """The images at the given positions, or where the (N,) mask is true."""
        index = np.arange(len(self))[chosen]
        in_memory = isinstance(self.images, np.ndarray)
        images = self.images[index] if in_memory else [self.images[i] for i in index]
        return Samples(images, self.labels[index], [self.names[i] for i in index])


class Entry(NamedTuple):
    """One image of a dataset.

    Attributes:
        role: "train", "query" or "gallery"; "query" is the whole test set where there is no gallery.
        label: name of its class.
        name: identifies the image wherever the data lie.
        image: its file, or its pixels if it is in memory.
    """

    role: str
    label: str
    name: str
    image: Any


@dataclass(frozen=True)
class Split:
    """A dataset split by class.

    Attributes:
        classes: names of all classes, training and test; labels are positions in it.
        train: training images.
        query: test images that search.
        gallery: test images that are searched; None where the queries search one another.
        official: fingerprint of the published list of images; None where it is not known here.
    """

    classes: Sequence[str]
    train: Samples
    query: Samples
    gallery: Samples | None = None
    official: str | None = None

    @classmethod
    def of_files(cls, entries: Iterable[Entry]) -> "Split":
        """The split of image files, in their order; classes are numbered as they first appear."""
        entries = list(entries)
        position = {name: n for n, name in enumerate(dict.fromkeys(entry.label for entry in entries))}

        def samples(role: str) -> Samples:
            chosen = [entry for entry in entries if entry.role == role]
            labels = np.array([position[entry.label] for entry in chosen], dtype=np.int64)
            return Samples([entry.image for entry in chosen], labels, [entry.name for entry in chosen])

        gallery = samples("gallery")
        return cls(list(position), samples("train"), samples("query"), gallery if len(gallery) else None)

    def roles(self) -> dict[str, Samples]:
        """The sets of images under "train", "query" and, where there is one, "gallery"."""
        roles = {"train": self.train, "query": self.query}
        return roles if self.gallery is None else roles | {"gallery": self.gallery}

    def entries(self) -> Iterator[Entry]:
        """All images."""
        for role, samples in self.roles().items():
            labels = samples.labels.tolist()
            for label, name, image in zip(labels, samples.names, samples.images, strict=True):
                yield Entry(role, str(self.classes[label]), name, image)


def fingerprint(split: Split) -> str:
    """12 hexadecimal digits that two splits share if they have the same images, class names and roles.

    The SHA-256 of the sorted lines (role, name of the image, name of its class). Where the data lie, the
    order in which the file system lists them, how classes are numbered, and pixels make no difference.
    """
    lines = sorted(f"{image.role}\0{image.name}\0{image.label}\n" for image in split.entries())
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def describe(name: str, split: Split) -> str:
    """Number of images and classes of each side; on a second line, the fingerprint and whether it is official."""
    size, found = count(split), fingerprint(split)
    if split.official is None:
        verdict = "no official fingerprint is known here"
    else:
        verdict = (
            "the official list" if found == split.official else f"NOT the official list, {split.official}"
        )
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
    """Number of classes and images of a split."""
    gallery = split.gallery.labels if split.gallery else split.query.labels[:0]
    return Counts(
        len(np.unique(split.train.labels)),
        len(np.union1d(split.query.labels, gallery)),
        len(split.train),
        len(split.query),
        len(gallery),
    )


def check_counts(split: Split, counts: Counts, dataset: str, root: Path) -> Split:
    """The split, which must have the published number of classes and images."""
    wrong = [
        f"{have:,} {name.replace('_', ' ')} instead of {want:,}"
        for name, have, want in zip(Counts._fields, count(split), counts, strict=True)
        if have != want
    ]
    if wrong:
        raise UserError(
            f"{dataset} in {root} has {', '.join(wrong)}: this copy is not whole or not the benchmark, "
            "get it again."
        )
    return split
