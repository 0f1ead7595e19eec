"""A short name for exactly these images in exactly these roles, to be noted beside every result."""

import hashlib

from dml.data.split import Samples, Split

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
