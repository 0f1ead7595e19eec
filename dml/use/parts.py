"""Embeddings on disk, in parts: written whole, read a part at a time."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from dml.errors import UserError
from dml.runs.failures import whole_file
from dml.use.listing import Listed

PART = 1024  # rows: what a kill can lose, and what a process holds at a time
PENDING = "embedding.json"  # says which images are being embedded


def part_file(folder: Path, first: int) -> Path:
    """The file of the part that begins at a row."""
    return folder / "parts" / f"{first:012}.npy"


def write_part(folder: Path, first: int, z_BD: Float[np.ndarray, "B D"], problems: dict[int, str]) -> None:
    """Write the part that begins at row `first`, last its vectors: a part whose vectors are there is whole.

    In the rows of images that cannot be read the vectors are NaN, and `problems` says what is wrong.
    """
    file = part_file(folder, first)
    with whole_file(file.with_suffix(".json")) as part:
        part.write_text(json.dumps(problems))
    with whole_file(file) as part, part.open("wb") as stream:
        np.save(stream, z_BD)


def claim(folder: Path, first: int, fingerprint: str, listed: Listed) -> None:
    """Note what is being embedded, so that the same command goes on after a kill and another is refused."""
    mine = {"first": first, "fingerprint": fingerprint, "images": listed.digest(), "part": PART}
    file = folder / PENDING
    there = json.loads(file.read_text()) if file.is_file() else None
    parts = [part for part in folder.glob("parts/*") if int(part.name.partition(".")[0]) >= first]
    if there == mine:
        done = min(PART * sum(part.suffix == ".npy" for part in parts), len(listed.names))
        print(f"{done:,} of {len(listed.names):,} images are embedded already.")
        return
    if there is not None and there["first"] >= first:
        raise UserError(
            f"{folder} holds the unfinished embedding of other images or by another model: give the same images and "
            "checkpoint to go on, another folder, or overwrite=true to begin anew."
        )
    for part in parts:
        part.unlink()
    with whole_file(file) as written:
        written.write_text(json.dumps(mine))


class Parts:
    """The embeddings of all images that an index ever had, by row; a row is an image's number for good."""

    def __init__(self, folder: Path, rows: int, dim: int) -> None:
        self.folder, self.rows, self.dim = folder, rows, dim

    def blocks(self, first: int = 0) -> Iterator[tuple[int, Float[np.ndarray, "B D"]]]:
        """First row and vectors, (B, D), of each part from the one that begins at row `first` on, read when used."""
        row = first
        while row < self.rows:
            file = part_file(self.folder, row)
            try:
                z_BD = np.load(file, mmap_mode="r")
            except (OSError, ValueError, EOFError):
                z_BD = np.empty((0, 0))
            if z_BD.dtype != np.float32 or z_BD.ndim != 2 or z_BD.shape[1] != self.dim or len(z_BD) == 0:
                raise UserError(f"{file} is missing or cut short: index the images anew, in another folder.")
            yield row, z_BD
            row += len(z_BD)

    def of(self, ids_n: Int[np.ndarray, "n"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some rows, rising, a part at a time: their numbers (B,) and vectors (B, D) in memory."""
        for first, z_BD in self.blocks():
            low, high = np.searchsorted(ids_n, [first, first + len(z_BD)])
            if high > low:
                yield ids_n[low:high], z_BD[ids_n[low:high] - first]

    def vectors(self, ids_n: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n D"]:
        """The vectors of some rows, rising, (n, D)."""
        return np.concatenate([np.empty((0, self.dim), np.float32), *(z_BD for _, z_BD in self.of(ids_n))])

    def readable(self, first: int) -> Int[np.ndarray, "n"]:
        """The rows that hold a vector, rising, from the part that begins at row `first` on."""
        kept = [row + np.flatnonzero(~np.isnan(z_BD[:, 0])) for row, z_BD in self.blocks(first)]
        return np.concatenate([np.empty(0, np.int64), *kept])

    def problems(self, first: int) -> dict[int, str]:
        """What is wrong with each image that cannot be read, from the part that begins at row `first` on."""
        found: dict[int, str] = {}
        for row, _ in self.blocks(first):
            said = json.loads(part_file(self.folder, row).with_suffix(".json").read_text())
            found |= {int(key): sentence for key, sentence in said.items()}
        return found
