"""Your own images, listed in a table with the class and role of each."""

import csv
import io
from pathlib import Path

from dml.data.datasets.folder import ROLES, TESTS
from dml.data.split import Entry, Split
from dml.errors import UserError

COLUMNS = ("path", "label", "split")


def load(root: str | Path, file: str | Path = "manifest.csv") -> Split:
    """The images of a CSV table with the columns `path,label,split`; other columns are ignored.

    Args:
        root: folder that the paths are relative to; absolute paths stand for themselves.
        file: the table, relative to root or absolute: UTF-8, separated by commas, a name with a comma in
            double quotes. `split` is train; and either test, whose images search one another, or query and
            gallery; capitals make no difference. Without train there are no training images: enough to evaluate.
    """
    root, file = Path(root), Path(root, file)
    rows = _rows(file)
    splits = {split for *_, split in rows}
    if splits - {"train"} not in TESTS:
        raise UserError(
            f"{file} has the splits {', '.join(sorted(splits)) or '(none)'}: "
            "there must be train and test, or train, query and gallery."
        )
    return Split.of_files(Entry(ROLES[split], label, path, root / path) for path, label, split in rows)


def _rows(file: Path) -> list[tuple[str, str, str]]:
    """Path, label and split of every line."""
    rows = []
    reader = csv.DictReader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        if absent := [column for column in COLUMNS if column not in (reader.fieldnames or [])]:
            raise UserError(
                f"{file} lacks the column '{absent[0]}': the first line must be path,label,split, "
                f"separated by commas, and is {','.join(reader.fieldnames or [])!r}."
            )
        for row in reader:
            path, label, split = (row[column] for column in COLUMNS)
            if not path or not label or (split or "").lower() not in ROLES or None in row:
                raise UserError(
                    f"{file}, line {reader.line_num}: found path {path!r}, label {label!r}, split {split!r}; a "
                    "line needs a path, a label and train, test, query or gallery (a name with a comma goes in "
                    "double quotes)."
                )
            rows.append((path, label, split.lower()))
    except csv.Error as error:
        number = reader.reader.line_num
        raise UserError(f"{file}, line {number}, is not CSV ({error}): correct it.") from None
    return rows


def _text(file: Path) -> str:
    """The content of a text file in UTF-8."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"Cannot read the table {file}: {error.strerror}; set dataset.file.") from None
    except UnicodeDecodeError as error:
        number = len((error.object[: error.start] + b"x").splitlines())
        line = error.object.splitlines()[number - 1].decode(errors="backslashreplace")
        raise UserError(
            f"{file}, line {number}, is not UTF-8: '{line[:80]}'; save the table as UTF-8, and give a file whose "
            "own name is not UTF-8 another name."
        ) from None
