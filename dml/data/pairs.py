"""Lists of pairs of images, same or different, as face verification publishes them."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dml.data.datasets.annotations import EXTENSIONS
from dml.errors import UserError, permitted

FOLDS = 10
SUFFIXES = [".jpg", *sorted(EXTENSIONS - {".jpg"})]


class Pair(NamedTuple):
    """One pair of a list.

    Attributes:
        line: number of its (first) line, from 1.
        first, second: names of the images, relative to the root; in LFW's format without a suffix.
        same: whether both show the same person.
        fold: 0 … folds − 1.
    """

    line: int
    first: str
    second: str
    same: bool
    fold: int


@dataclass(frozen=True)
class PairList:
    """P pairs of N images.

    Attributes:
        files: N image files, each once.
        names: N names, relative to the root.
        first, second: (P,) positions of each pair's images.
        same: (P,) bool, whether both show the same person.
        fold: (P,) 0 … folds − 1.
    """

    files: list[Path]
    names: list[str]
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    fold: np.ndarray

    def fingerprint(self) -> str:
        """12 hexadecimal digits that two lists share if they have the same pairs in the same folds."""
        pairs = zip(self.fold, self.same, self.first, self.second, strict=True)
        lines = [f"{k}\0{int(same)}\0{self.names[i]}\0{self.names[j]}\n" for k, same, i, j in pairs]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def read_pairs(file: str | Path, root: str | Path) -> PairList:
    """Read a list in LFW's or CPLFW's format; a first line of one or two numbers is LFW's header.

    - LFW (Huang et al., Labeled Faces in the Wild, 2007): `<folds> <pairs>`, then for each fold as many lines
      `<name> <n> <n>` (same) and as many `<name> <n> <name> <n>` (different), of images `<name>/<name>_<n>`, the
      number with four digits, jpg or another suffix. With a single number in the header, as in view 1, the k-th tenth
      of either kind is fold k.
    - CPLFW and CALFW (Zheng and Deng, 2018; Zheng, Deng and Hu, 2017): no header, two lines `<file> <label>` a pair;
      label 0 is different, any other same. The folds are ten consecutive parts, equal up to one pair.

    Args:
        file: the list.
        root: folder of the images.

    Raises:
        UserError: a line that is not of the format, pairs that lack, labels that contradict one another, an image
            paired with itself, pairs of one kind only, or an image that is not there; names file and line.
    """
    file, root = Path(file), Path(root)
    if not file.is_file():
        raise UserError(f"dataset.pairs={file} is no file: give a list of pairs in LFW's or CPLFW's format.")
    with permitted(file):
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    header = re.fullmatch(r"(\d+)(?:\s+(\d+))?", lines[0][1]) if lines else None
    pairs = list(_lfw(file, header, lines[1:]) if header else _cplfw(file, lines))
    _check(file, pairs)
    return _find(file, root, pairs, lfw=header is not None)


def _lfw(file: Path, header: re.Match[str], lines: list[tuple[int, str]]) -> Iterator[Pair]:
    folds, size = (int(header[1]), int(header[2])) if header[2] else (1, int(header[1]))
    if len(lines) != 2 * folds * size:
        raise UserError(
            f"{file} promises {2 * folds * size:,} pairs in its first line, '{header[0]}', and has {len(lines):,}: get "
            "the file again."
        )
    for position, (number, line) in enumerate(lines):
        fold, place = divmod(position, 2 * size)
        same = place < size
        form = "<name> <number> <number>" if same else "<name> <number> <name> <number>"
        pattern = r"(.+?)\s+(\d+)\s+(\d+)" if same else r"(.+?)\s+(\d+)\s+(.+?)\s+(\d+)"
        if not (found := re.fullmatch(pattern, line)):
            raise UserError(f"{file}, line {number}: expected '{form}', found {line[:80]!r}; correct it.")
        name, first, other, second = (found[1], found[2], found[1], found[3]) if same else found.groups()
        if not same and name == other:
            raise UserError(f"{file}, line {number}: pairs {name} with {other} as different; correct it.")
        fold = fold if header[2] else place % size * FOLDS // size
        yield Pair(number, _lfw_name(name, first), _lfw_name(other, second), same, fold)


def _lfw_name(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def _cplfw(file: Path, lines: list[tuple[int, str]]) -> Iterator[Pair]:
    for number, line in lines:
        if not re.fullmatch(r".+\s+\d+", line):
            raise UserError(
                f"{file}, line {number}: expected '<file> <label>', found {line[:80]!r}; correct it. (A list in LFW's "
                "format begins with its number of folds and of pairs.)"
            )
    if len(lines) % 2:
        raise UserError(
            f"{file}, line {lines[-1][0]}: has no partner, since two lines make a pair and there are {len(lines):,}; "
            "get the file again."
        )
    for position, ((number, line), (_, other)) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        (first, label), (second, other_label) = line.rsplit(None, 1), other.rsplit(None, 1)
        if int(label) != int(other_label):
            raise UserError(
                f"{file}, line {number}: the two lines of this pair have the labels {label} and {other_label}; give "
                "both the same."
            )
        yield Pair(number, first, second, int(label) != 0, position * FOLDS // (len(lines) // 2))


def _check(file: Path, pairs: list[Pair]) -> None:
    """Refuse pairs that cannot be judged, or that contradict one another."""
    for same, kind in ((True, "same"), (False, "different")):
        if not any(pair.same is same for pair in pairs):
            raise UserError(f"{file} has no pair of {kind} people: verification needs both kinds.")
    folds = len({pair.fold for pair in pairs})
    if folds < 2 or pairs[-1].fold != folds - 1:
        raise UserError(
            f"{file} has {len(pairs)} pairs in {folds} folds: at least two folds with pairs in each are needed, ten of "
            "them where the file does not say how many."
        )
    seen: dict[frozenset[str], Pair] = {}
    for pair in pairs:
        if pair.first == pair.second:
            raise UserError(f"{file}, line {pair.line}: pairs {pair.first} with itself; correct it.")
        before = seen.setdefault(frozenset(pair[1:3]), pair)
        if before.same != pair.same:
            raise UserError(
                f"{file}, line {pair.line}: says the opposite of line {before.line} of the same images; correct one."
            )


def _find(file: Path, root: Path, pairs: list[Pair], lfw: bool) -> PairList:
    """The list with each image's file, looked up once."""
    if not root.is_dir():
        raise UserError(f"dataset.root={root} is no folder: give the one that holds the images of {file}.")
    found: dict[str, Path | None] = {}
    missing: dict[str, int] = {}
    for pair in pairs:
        for name in (pair.first, pair.second):
            if name not in found:
                names = [name + suffix for suffix in SUFFIXES] if lfw else [name]
                found[name] = next((root / name for name in names if (root / name).is_file()), None)
                if found[name] is None:
                    missing[name] = pair.line
    if missing:
        name, line = next(iter(missing.items()))
        any_of = ".jpg, nor with another suffix" if lfw else ""
        more = f" (nor {len(missing) - 1:,} more images)" if len(missing) > 1 else ""
        raise UserError(
            f"{file}, line {line}: there is no {root / name}{any_of}{more}; give the folder of the images with "
            "dataset.root=…."
        )
    position = {name: n for n, name in enumerate(found)}
    return PairList(
        [path for path in found.values() if path],
        list(found),
        np.array([position[pair.first] for pair in pairs]),
        np.array([position[pair.second] for pair in pairs]),
        np.array([pair.same for pair in pairs]),
        np.array([pair.fold for pair in pairs]),
    )
