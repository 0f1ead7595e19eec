"""Bring a dataset to where training finds it, check it, and say what is there.

    python scripts/prepare.py cub --root data
    python scripts/prepare.py cars --root data --archive cars_train.tgz cars_test.tgz car_devkit.tgz
    python scripts/prepare.py folder --root my_images --duplicates

What is there already is checked and left as it is, so running it again does no harm.
"""

import argparse
import shutil
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dml.data.checks import check_files, check_present
from dml.data.datasets import caltech101, cars, cub, folder, inshop, manifest, omniglot, sop
from dml.data.download import extract, md5_of
from dml.data.split import Split, describe
from dml.errors import Note, UserError, permitted, printed_notes


class Image(NamedTuple):
    """An image file and the name of its class."""

    name: str
    label: str
    file: Path


def conflicting_duplicates(split: Split) -> list[list[Image]]:
    """Groups of files of the same bytes whose classes differ, by name; only files of equal size are read."""
    groups = [
        group
        for same_size in _grouped(image_files(split), lambda image: image.file.stat().st_size)
        for group in _grouped(same_size, lambda image: md5_of(image.file))
    ]
    return sorted(sorted(group) for group in groups if len({image.label for image in group}) > 1)


def image_files(split: Split) -> Iterator[Image]:
    """The image files of a split, whatever their role; none of a set that lives in memory."""
    for samples in (split.train, split.query, split.gallery):
        if samples is not None and not isinstance(samples.images, np.ndarray):
            for file, label, name in zip(samples.images, samples.labels, samples.names, strict=True):
                yield Image(name, split.classes[label], file)


def _grouped(images: Iterable[Image], key: Callable[[Image], Hashable]) -> list[list[Image]]:
    """The images that share a key with another."""
    groups = defaultdict(list)
    for image in images:
        groups[key(image)].append(image)
    return [group for group in groups.values() if len(group) > 1]


# Loaders of (root, download), and those of (root) for images that nobody else has.
PUBLIC: dict[str, Callable[..., Split]] = {
    "cub": cub.load,
    "cars": cars.load,
    "sop": sop.load,
    "inshop": inshop.load,
    "caltech101": caltech101.load,
    "omniglot": omniglot.load,
    "omniglot_small": omniglot.load_small,
}
OWN: dict[str, Callable[..., Split]] = {"folder": folder.load, "manifest": manifest.load}
LOOSE = {".mat", ".txt", ".csv"}


@permitted()
def prepare(name: str, root: Path, archives: Sequence[Path] = ()) -> Split:
    """The dataset in `root`; if it is not there, unpacked from `archives` or fetched.

    Args:
        name: a key of `PUBLIC` or `OWN`.
        root: what `dataset.root` will be.
        archives: archives, or loose annotation files, that lie elsewhere.

    Raises:
        UserError: it cannot be had, is not what it should be, or lacks images.
    """
    try:
        split = (PUBLIC | OWN)[name](root)
    except UserError:
        split = _brought(name, root, archives)
    else:
        if archives:
            warnings.warn(
                f"{root} holds {name} already, so nothing was unpacked into it.", Note, stacklevel=2
            )
    if name in OWN:
        check_files(split.train, split.query, split.gallery)
    else:
        check_present(split, root)
    return split


def _brought(name: str, root: Path, archives: Sequence[Path]) -> Split:
    """The dataset from what a person has, or fetched.

    Given an archive, nothing is fetched: that would hide that it was the wrong one.
    """
    # The loose files first: they are in place even if an archive turns out to have been unpacked already.
    for archive in sorted(archives, key=lambda archive: not _is_loose(archive)):
        adopt(archive, root)
    load, packed = (PUBLIC | OWN)[name], [archive.name for archive in archives if not _is_loose(archive)]
    if not packed:
        return load(root, download=True) if name in PUBLIC else load(root)
    try:
        return load(root)
    except UserError as error:
        raise UserError(f"{', '.join(packed)} was unpacked, but {error}") from None


def _is_loose(archive: Path) -> bool:
    return archive.suffix.lower() in LOOSE


def adopt(archive: Path, root: Path) -> None:
    """Unpack an archive into `root`, or copy a loose annotation file there."""
    if archive.is_dir():
        raise UserError(
            f"--archive {archive} is a folder: what is unpacked already is used where it lies, with --root {archive}."
        )
    if not archive.is_file():
        raise UserError(f"--archive {archive} is not a file: name the archive as it was downloaded.")
    if not _is_loose(archive):
        extract(archive, root)
    elif not (root / archive.name).exists():
        try:
            root.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, root / archive.name)
        except OSError as error:
            raise UserError(f"Cannot copy {archive} to {root}: {error.strerror}.") from None


def report(name: str, split: Split, root: Path) -> str:
    """What is there, the split's fingerprint, and the next command."""
    return f"{describe(name, split)}\nNext: python -m dml.train dataset={name} \"dataset.root='{root}'\""


def report_duplicates(split: Split) -> str:
    """One line a group of identical files that have different classes."""
    if not any(image_files(split)):
        return "Identical images were not looked for: these are kept in memory, and only files are compared."
    groups = conflicting_duplicates(split)
    lines = [" = ".join(f"{image.name} (class '{image.label}')" for image in group) for group in groups]
    return "\n".join([f"Identical images under different classes: {len(groups)}", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=[*PUBLIC, *OWN])
    parser.add_argument("--root", type=Path, required=True, help="what dataset.root will be")
    parser.add_argument("--archive", type=Path, nargs="+", default=[], help="archives that you have already")
    parser.add_argument("--duplicates", action="store_true", help="look for one image under several classes")
    arguments = parser.parse_args(argv)
    with printed_notes():
        try:
            split = prepare(arguments.dataset, arguments.root, arguments.archive)
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Stopped; run the same command again to go on.", file=sys.stderr)
            return 130
    print(report(arguments.dataset, split, arguments.root))
    if arguments.duplicates:
        print(report_duplicates(split))
    return 0


if __name__ == "__main__":
    sys.exit(main())
