"""What lies in an index's folder: `index.json`, which names the files that belong to it, and its items."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from pydantic import BaseModel, ValidationError

from dml.errors import UserError, permitted
from dml.runs.failures import whole_file
from dml.runs.tables import TEXT, write_csv
from dml.use.parts import Parts

NAME = "index.json"
COLUMNS = ("id", "name", "class")
ANEW = "index the images anew, in another folder or with overwrite=true"


class State(BaseModel):
    """`index.json`.

    Attributes:
        engine, type: where the vectors are searched, in "faiss" or "milvus", and how, "flat", "hnsw" or "ivfpq".
        uri, collection: of Milvus; a file is relative to the folder.
        checkpoint: relative to the folder.
        fingerprint, preprocessing, dim: of the embedder.
        root: folder that the images' names are relative to, relative to the index's.
        images, classes: that are searched.
        rows: of the parts; images that could not be read or were removed count.
        edition: number of changes; the files of each have their own names.
        sizes: name of a file → bytes.
        measured: see `dml.use.measure.measure`.
    """

    engine: Literal["faiss", "milvus"]
    type: Literal["flat", "hnsw", "ivfpq"]
    uri: str | None = None
    collection: str | None = None
    checkpoint: str
    fingerprint: str
    preprocessing: str
    dim: int
    root: str
    images: int = 0
    classes: int = 0
    rows: int = 0
    edition: int = 0
    sizes: dict[str, int] = {}
    measured: dict[str, float | int | None] = {}

    def file(self, kind: str) -> str:
        """Name of the file of this edition, of kind "index.faiss" or "items.csv"."""
        stem, _, suffix = kind.partition(".")
        return f"{stem}-{self.edition}.{suffix}"


@dataclass(frozen=True)
class Items:
    """The images of an index: (N,) their numbers, rising, which are rows of the parts; N names and classes."""

    ids: Int[np.ndarray, "N"]
    names: list[str]
    classes: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __add__(self, other: "Items") -> "Items":
        return Items(
            np.concatenate([self.ids, other.ids]), self.names + other.names, self.classes + other.classes
        )

    def subset(self, chosen: np.ndarray) -> "Items":
        """The items where the (N,) mask is true."""
        kept = np.flatnonzero(chosen).tolist()
        return Items(self.ids[chosen], [self.names[n] for n in kept], [self.classes[n] for n in kept])


@permitted()
def read_state(folder: Path, key: str = "index") -> State:
    """What an index's folder says of it; a UserError if a file of it is missing or cut short."""
    file = folder / NAME
    if not file.is_file():
        what = "holds no" if folder.is_dir() else "is not a folder with an"
        raise UserError(
            f"{key}={folder} {what} {NAME}: python -m dml.index ckpt_path=… images=… out={folder} makes an index."
        )
    try:
        state = State.model_validate_json(file.read_text())
    except (ValidationError, UnicodeDecodeError):
        raise UserError(f"{file} is damaged or not written by dml.index: {ANEW}.") from None
    for name, size in state.sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if found != size:
            raise UserError(f"{folder / name} is missing or cut short ({found:,} of {size:,} bytes): {ANEW}.")
    return state


@permitted()
def read_items(folder: Path, state: State) -> Items:
    """The images of an index."""
    file = folder / state.file("items.csv")
    with file.open(**TEXT) as stream:
        header, *rows = csv.reader(stream)
    if tuple(header) != COLUMNS or len(rows) != state.images or any(len(row) != 3 for row in rows):
        raise UserError(f"{file} does not list the {state.images:,} images of the index: {ANEW}.")
    ids, names, classes = zip(*rows, strict=True)
    return Items(np.array(ids, dtype=np.int64), list(names), list(classes))


def commit(
    folder: Path, state: State, items: Items, save: Callable[[Path], None] | None, **changes: Any
) -> State:
    """Write the next edition beside the present one, then put it in its place by replacing `index.json`.

    A process that is killed leaves one edition or the other.

    Args:
        folder: of the index.
        state: the present one, or that of a new index.
        items: what is searched from now on.
        save: writes the index to a file; None where it lives elsewhere.
        changes: other fields of the state.
    """
    changes |= {"images": len(items), "classes": len({*items.classes} - {""})}
    new = state.model_copy(update={"edition": state.edition + 1, **changes})
    rows = zip(items.ids.tolist(), items.names, items.classes, strict=True)
    write_csv(folder / new.file("items.csv"), COLUMNS, rows)
    names = [new.file("items.csv")]
    if save is not None:
        names.append(new.file("index.faiss"))
        with whole_file(folder / names[-1]) as part:
            save(part)
    new.sizes = {name: (folder / name).stat().st_size for name in names}
    with whole_file(folder / NAME) as part:
        part.write_text(new.model_dump_json(indent=2) + "\n")
    for file in editions(folder):
        if file.name not in new.sizes:
            file.unlink()
    return new


def editions(folder: Path) -> list[Path]:
    """The files of all editions, of which a kill may leave two."""
    return [f for f in folder.iterdir() if re.fullmatch(r"(index-\d+\.faiss|items-\d+\.csv)", f.name)]


def parts_of(folder: Path, state: State) -> Parts:
    """The vectors of an index."""
    return Parts(folder, state.rows, state.dim)
