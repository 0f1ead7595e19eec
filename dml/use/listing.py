"""The images of a folder or a table, by name."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dml.data.datasets.annotations import EXTENSIONS, files_below
from dml.errors import UserError, permitted, quote


class Listed(NamedTuple):
    """N images.

    Attributes:
        root: folder that the names are relative to.
        names: N paths below it, or relative to it.
        classes: N names of classes, empty where an image has none.
    """

    root: Path
    names: list[str]
    classes: list[str]

    def digest(self) -> str:
        """12 hexadecimal digits that two lists share if they have the same names in the same order."""
        return hashlib.sha256("\0".join(self.names).encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def relative_to(self, root: Path) -> "Listed":
        """The same images under names relative to another folder; below it, their folder there is their class."""
        own, there = os.path.abspath(self.root), os.path.abspath(root)
        names = [os.path.relpath(os.path.join(own, name), there) for name in self.names]
        if own.startswith(os.path.join(there, "")) and self.classes == [*map(os.path.dirname, self.names)]:
            return Listed(root, names, [*map(os.path.dirname, names)])
        return Listed(root, names, self.classes)

    def without(self, known: Sequence[str]) -> "Listed":
        """The images that are not among the names."""
        out = {*known}
        kept = [n for n, name in enumerate(self.names) if name not in out]
        return Listed(self.root, [self.names[n] for n in kept], [self.classes[n] for n in kept])


class Files(Sequence[Path]):
    """The paths of images, each made when it is asked for: a million would take half a gigabyte."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Path:  # type: ignore[override]
        return self.root / self.names[index]


@permitted()
def list_images(source: Path, key: str) -> Listed:
    """The images of a folder at any depth, by path, each of the class of its folder; or of a table, in its order.

    Of a folder, hidden files and files without an image's extension are left out. A CSV table has a column `path`,
    relative to the table's folder or absolute, and perhaps a column `label`. `key` is how the source was given.
    """
    listed = _of_folder(source) if source.is_dir() else _of_table(source, key)
    if not listed.names:
        raise UserError(f"{key}={source} holds no images ({' '.join(sorted(EXTENSIONS))}): give another.")
    if twice := [name for name, times in Counter(listed.names).items() if times > 1]:
        raise UserError(f"{key}={source} lists {quote(twice)} twice: list every image once.")
    return listed


def _of_folder(folder: Path) -> Listed:
    files = (file for file in files_below(folder) if file.suffix.lower() in EXTENSIONS)
    names = [file.relative_to(folder).as_posix() for file in files]
    return Listed(folder, names, [*map(os.path.dirname, names)])


def _of_table(file: Path, key: str) -> Listed:
    if not file.is_file():
        raise UserError(
            f"{key}={file} is not there: give a folder of images or a CSV table with a column path."
        )
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{key}={file} is no CSV table in UTF-8 ({error}): give a folder of images or a table with a column path."
        ) from None
    if absent := [number for number, row in enumerate(rows, start=2) if not row.get("path")]:
        raise UserError(
            f"{key}={file}, line {absent[0]}: there is no path; the first line must be path,label."
        )
    names = [os.path.normpath(row["path"]) for row in rows]
    classes = [str(row["label"] or "") if "label" in row else os.path.dirname(row["path"]) for row in rows]
    return Listed(file.parent, names, classes)
