"""Finding one image under several classes, which no loss can learn and no test can judge."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dml.data.download import md5_of
from dml.data.split import Split


class Image(NamedTuple):
    """An image file and the name of its class."""

    name: str
    label: str
    file: Path


def conflicting_duplicates(split: Split) -> list[list[Image]]:
    """Groups of files of the same bytes whose classes differ, by name; only files of equal size are read."""
    groups = [
        group
        for same_size in _grouped(image_files(split), lambda image: image.file.stat().st_size)
        for group in _grouped(same_size, lambda image: md5_of(image.file))
    ]
    return sorted(sorted(group) for group in groups if len({image.label for image in group}) > 1)


def image_files(split: Split) -> Iterator[Image]:
    """The image files of a split, whatever their role; none of a set that lives in memory."""
    for samples in (split.train, split.query, split.gallery):
        if samples is not None and not isinstance(samples.images, np.ndarray):
            for file, label, name in zip(samples.images, samples.labels, samples.names, strict=True):
                yield Image(name, split.classes[label], file)


def _grouped(images: Iterable[Image], key: Callable[[Image], Hashable]) -> list[list[Image]]:
    """The images that share a key with another."""
    groups = defaultdict(list)
    for image in images:
        groups[key(image)].append(image)
    return [group for group in groups.values() if len(group) > 1]
