"""CSV logger that a resumed run continues."""

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from dml.errors import note, permitted
from dml.runs.failures import whole_file
from dml.runs.folder import create

METRICS = "metrics.csv"


class AppendingWriter(ExperimentWriter):
    """Lightning's writer, but it continues an existing file where Lightning would delete it."""

    def _check_log_dir_exists(self) -> None:
        """Lightning's deletes the file."""

    def _record_new_keys(self) -> set[str]:
        file = Path(self.metrics_file_path)
        if not self.metrics_keys and file.is_file():  # only now: a resumed run mends it first
            with file.open(newline="") as stream:
                self.metrics_keys = next(csv.reader(stream), [])
        return super()._record_new_keys()

    def save(self) -> None:
        with permitted(self.metrics_file_path):
            super().save()

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        rewrite(Path(self.metrics_file_path), read_rows(Path(self.metrics_file_path)), fieldnames)


class CsvLogger(CSVLogger):
    """`metrics.csv` in the run's folder `save_dir`, every row on disk as soon as it is logged."""

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=1)
        self._experiment = AppendingWriter(save_dir)


def read_rows(file: Path) -> list[dict[str, str]]:
    """All rows of a CSV file."""
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def whole_rows(file: Path) -> tuple[list[dict[str, str]], int]:
    """The rows of `metrics.csv` that can be read, whatever lies between them, and how many lines cannot."""
    # Line by line, as no value holds a line break: a stray quote spoils no more than its own line.
    lines = file.read_text(errors="replace").rstrip("\n").split("\n")
    header, *cells = (line.split(",") for line in lines)
    if "step" not in header or len(set(header)) < len(header):
        return [], len(lines)
    rows = [dict(zip(header, line, strict=True)) for line in cells if len(line) == len(header)]
    rows = [row for row in rows if row["step"].isdecimal() and all(map(is_number, row.values()))]
    return rows, len(cells) - len(rows)


def is_number(cell: str) -> bool:
    """Whether a cell is empty or a number."""
    try:
        return cell == "" or isinstance(float(cell), float)
    except ValueError:
        return False


def rewrite(file: Path, rows: list[dict[str, str]], columns: Sequence[str]) -> None:
    """Replace a CSV file atomically: a reader sees the old or the new one."""
    with whole_file(file) as part, part.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def keep_metrics(folder: Path, before: int) -> None:
    """Drop the rows of `metrics.csv` that a run resumed at step `before` logs again, and what cannot be read.

    A damaged file, such as one whose last row a kill cut short, is kept as it was in `older/`, and a note says so.
    """
    file = folder / METRICS
    if not file.is_file():
        return
    whole, lost = whole_rows(file)
    if lost:
        kept = create(folder / "older") / METRICS
        shutil.copyfile(file, kept)
        lines = f"{lost} damaged line{'s' if lost > 1 else ''}"
        note(f"{file} goes on without {lines}; it is kept as it was: {kept}.")
    rows = [row for row in whole if int(row["step"]) < before]
    if rows:
        rewrite(file, rows, list(rows[0]))
    else:
        file.unlink()
