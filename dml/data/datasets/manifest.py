"""Your own images, listed in a table with the class and role of each."""

import csv
from pathlib import Path

from dml.data.datasets.folder import ROLES
from dml.data.split import Entry, Split
from dml.errors import UserError

COLUMNS = ("path", "label", "split")


def load(root: str | Path, file: str | Path = "manifest.csv") -> Split:
    """The images of a CSV table with the columns `path,label,split`; other columns are ignored.

    Args:
        root: folder that the paths are relative to; absolute paths stand for themselves.
        file: the table, relative to root or absolute: UTF-8, separated by commas, a name with a comma in
            double quotes. `split` is train; and either test, whose images search one another, or query and
            gallery.

    Raises:
        UserError: no such table, a missing column, or a line that is not right (named).
    """
    root, file = Path(root), Path(root, file)
    rows = _rows(file)
    splits = {split for *_, split in rows}
    if splits not in ({"train", "test"}, {"train", "query", "gallery"}):
        raise UserError(
            f"{file} has the splits {', '.join(sorted(splits)) or '(none)'}: "
            "there must be train and test, or train, query and gallery."
        )
    return Split.of_files(Entry(ROLES[split], label, path, root / path) for path, label, split in rows)


def _rows(file: Path) -> list[tuple[str, str, str]]:
    """Path, label and split of every line."""
    rows = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            if absent := [column for column in COLUMNS if column not in (reader.fieldnames or [])]:
                raise UserError(
                    f"{file} lacks the column '{absent[0]}': the first line must be path,label,split, "
                    f"separated by commas, and is {','.join(reader.fieldnames or [])!r}."
                )
            for row in reader:
                path, label, split = (row[column] for column in COLUMNS)
                if not path or not label or split not in ROLES or None in row:
                    raise UserError(
                        f"{file}, line {reader.line_num}: found path {path!r}, label {label!r}, split {split!r}; a "
                        "line needs a path, a label and train, test, query or gallery (a name with a comma goes in "
                        "double quotes)."
                    )
                rows.append((path, label, split))
    except OSError as error:
        raise UserError(f"Cannot read the table {file}: {error.strerror}; set dataset.file.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a CSV table in UTF-8 ({error}): save it as one.") from None
    return rows
