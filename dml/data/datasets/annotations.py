"""Reading annotation files and folders of images."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from dml.data.split import Entry, Split
from dml.errors import UserError, note, quote

EXTENSIONS = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])


def parse_lines(file: Path, pattern: str, form: str, header: int = 0) -> Iterator[tuple[str, ...]]:
    """The fields of each line of an annotation file.

    Args:
        file: text file; blank lines are skipped.
        pattern: regular expression for a whole line, a group a field.
        form: how a line should look, for a person to read.
        header: lines to skip at the start.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing: this copy of the dataset is not whole, get it again.")
    with file.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if number <= header or not text:
                continue
            if not (match := re.fullmatch(pattern, text)):
                raise UserError(
                    f"{file}, line {number}: expected '{form}', found {text[:80]!r}; get the file again."
                )
            yield match.groups()


def listing(folder: Path) -> list[Path]:
    """What a folder holds, by name, hidden entries left out; nothing where there is no such folder."""
    return sorted(e for e in folder.iterdir() if not e.name.startswith(".")) if folder.is_dir() else []


def folders_of(folder: Path) -> list[Path]:
    """The folders in a folder, by name; none where it does not exist."""
    return [entry for entry in listing(folder) if entry.is_dir()]


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, at any depth, by path; hidden files and folders are left out."""
    files: list[Path] = []
    seen, left = set(), [folder]
    while left:
        here = left.pop()
        if (real := os.path.realpath(here)) in seen:
            raise UserError(f"{here} leads to {real}, whose images are listed already: remove the link.")
        seen.add(real)
        for entry in listing(here):
            (left if entry.is_dir() else files).append(entry)
    return sorted(files)


def entries_of(
    folder: Path, role: str, prefix: str = "", left_out: Collection[str] = (), nested: bool = False
) -> list[Entry]:
    """The images of a tree `<folder>/<class>/<image>`, classes and images by name.

    Files without the extension of an image are skipped, with a note.

    Args:
        folder: of the classes.
        role: of all images.
        prefix: comes before `<class>/<image>` in an image's name.
        left_out: folders that are no classes.
        nested: the images of a class may lie at any depth, `<folder>/<class>/**/<image>`.

    Raises:
        UserError: an empty class, or, unless `nested`, a folder inside a class.
    """
    entries, strays = [], []
    for label in folders_of(folder):
        if label.name in left_out:
            continue
        files = files_below(label) if nested else listing(label)
        if not nested and (inner := [file.name for file in files if file.is_dir()]):
            raise UserError(
                f"{label} holds a folder, '{inner[0]}', where images were expected: "
                "the layout is <class>/<image>, below dataset.root or below train/ and test/ in it; "
                "dataset.nested=true takes the images at any depth."
            )
        images = [file for file in files if _is_image(file)]
        if not images:
            raise UserError(
                f"The class folder {label} holds no images ({' '.join(sorted(EXTENSIONS))}): remove or fill it."
            )
        entries += [
            Entry(role, label.name, f"{prefix}{file.relative_to(folder).as_posix()}", file) for file in images
        ]
        strays += [file for file in files if not _is_image(file)]
    strays += [entry for entry in listing(folder) if _is_image(entry) and not entry.is_dir()]
    if strays:
        note(f"Not an image of a class, so skipped: {quote([str(stray) for stray in strays])}.")
    return entries


def split_by_class(entries: Iterable[Entry], test: Collection[str]) -> Split:
    """The split in which the given classes test and search one another, and the others train."""
    return Split.of_files(e._replace(role="query" if e.label in test else "train") for e in entries)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS
