"""From a list of labelled images to a split, with the counts and the class-disjointness that it must have."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dml.data.split import Samples, Split
from dml.errors import UserError


class Listed(NamedTuple):
    """One image of a dataset.

    Attributes:
        role: "train", "query" or "gallery"; "query" is the whole test set where there is no gallery.
        label: name of its class.
        name: what identifies the image wherever the data lie.
        file: where it lies.
    """

    role: str
    label: str
    name: str
    file: Path


class Counts(NamedTuple):
    """Size of a benchmark; gallery and query share the test classes."""

    train_classes: int
    test_classes: int
    train_images: int
    query_images: int
    gallery_images: int = 0


def to_split(listed: Iterable[Listed], classes: Sequence[str] | None = None) -> Split:
    """The split of the images listed, in their order.

    Args:
        listed: the images.
        classes: names in the order of the labels; None takes them as they first appear.
    """
    listed = list(listed)
    classes = list(classes if classes is not None else dict.fromkeys(image.label for image in listed))
    position = {name: label for label, name in enumerate(classes)}

    def samples(role: str) -> Samples:
        chosen = [image for image in listed if image.role == role]
        labels = np.array([position[image.label] for image in chosen], dtype=np.int64)
        return Samples([image.file for image in chosen], labels, [image.name for image in chosen])

    gallery = samples("gallery")
    return Split(classes, samples("train"), samples("query"), gallery if len(gallery) else None)


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
        UserError: a number of classes or images differs, or a class is on both sides.
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
    if both := classes_on_both_sides(split):
        raise UserError(f"{dataset} in {root} has {quote(both)} in training and in test: get it again.")
    return split


def classes_on_both_sides(split: Split) -> list[str]:
    """Names of the classes with images in training and in query or gallery."""
    test = (
        split.query.labels if split.gallery is None else np.union1d(split.query.labels, split.gallery.labels)
    )
    return [split.classes[label] for label in np.intersect1d(split.train.labels, test)]


def quote(names: Sequence[str]) -> str:
    """The first of several names, and how many more there are."""
    return f"'{names[0]}'" + (f" (and {len(names) - 1:,} more)" if len(names) > 1 else "")


def parse_lines(file: Path, pattern: str, form: str, header: int = 0) -> Iterator[tuple[str, ...]]:
    """The fields of each line of an annotation file.

    Args:
        file: text file; blank lines are passed over.
        pattern: regular expression for a whole line, a group a field.
        form: how a line should look, for a person to read.
        header: lines to skip at the start.

    Raises:
        UserError: no such file, or a line that does not match; names file and line.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing: this copy of the dataset is not whole, get it again.")
    compiled = re.compile(pattern)
    with file.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if number <= header or not text:
                continue
            if not (match := compiled.fullmatch(text)):
                raise UserError(
                    f"{file}, line {number}: expected '{form}', found {text[:80]!r}; get the file again."
                )
            yield match.groups()
