"""Reading annotation files and folders of images, and making a split of what they list."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dml.data.split import Samples, Split
from dml.errors import Note, UserError, quote


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


def parse_lines(file: Path, pattern: str, form: str, header: int = 0) -> Iterator[tuple[str, ...]]:
    """The fields of each line of an annotation file.

    Args:
        file: text file; blank lines are skipped.
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


EXTENSIONS = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, by name, hidden entries left out.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as scan:
            return sorted((e for e in scan if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise UserError(f"Cannot read the folder {folder}: {error.strerror}.") from None


def folders_of(folder: Path) -> list[Path]:
    """The folders in a folder, by name; none where it does not exist."""
    return [Path(entry.path) for entry in entries_of(folder) if entry.is_dir()] if folder.is_dir() else []


def images_by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of a tree `<folder>/<class>/<image>`, classes and images by name.

    Files without the extension of an image are skipped, with a note.

    Raises:
        UserError: an empty class, a folder inside a class, a broken link, a folder that cannot be read.
    """
    by_class: dict[str, list[Path]] = {}
    others: list[str] = []
    for entry in entries_of(folder):
        if entry.is_dir():
            by_class[entry.name] = _images(Path(entry.path), others)
        elif _is_image(entry):
            others.append(entry.path)
    if others:
        warnings.warn(f"Not an image of a class, so skipped: {quote(others)}.", Note, stacklevel=2)
    return by_class


def _images(folder: Path, others: list[str]) -> list[Path]:
    """The images of one class; adds files that are no images to `others`."""
    images = []
    for entry in entries_of(folder):
        if entry.is_dir():
            raise UserError(
                f"{folder} holds a folder, '{entry.name}', where images were expected: "
                "the layout is <class>/<image>, below dataset.root or below train/ and test/ in it."
            )
        if _is_image(entry):
            images.append(Path(entry.path))
        else:
            others.append(entry.path)
    if not images:
        raise UserError(
            f"The class folder {folder} holds no images ({' '.join(sorted(EXTENSIONS))}): remove or fill it."
        )
    return images


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file's extension is an image's."""
    if entry.is_symlink() and not os.path.exists(entry.path):
        raise UserError(f"{entry.path} is a broken link to {os.readlink(entry.path)}: mend it or remove it.")
    return os.path.splitext(entry.name)[1].lower() in EXTENSIONS
