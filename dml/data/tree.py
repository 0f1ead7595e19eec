"""Reading trees of folders, one a class, with images in them."""

import os
import warnings
from pathlib import Path

from dml.data.listing import quote
from dml.errors import UserError
from dml.notes import Note

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

    Files that are no images by their extension are passed over with a warning.

    Raises:
        UserError: an empty class, a folder inside a class, a broken link, a folder that cannot be read.
    """
    by_class: dict[str, list[Path]] = {}
    strangers: list[str] = []
    for entry in entries_of(folder):
        if entry.is_dir():
            by_class[entry.name] = _images(Path(entry.path), strangers)
        elif _is_image(entry):
            strangers.append(entry.path)
    if strangers:
        warnings.warn(f"Not an image of a class, so passed over: {quote(strangers)}.", Note, stacklevel=2)
    return by_class


def _images(folder: Path, strangers: list[str]) -> list[Path]:
    """The images of one class; adds what is none to `strangers`."""
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
            strangers.append(entry.path)
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
