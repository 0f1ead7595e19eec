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
from collections.abc import Callable, Sequence
from pathlib import Path

from dml.data.checks import check_files, check_present, check_split, copies, warn_of_copies
from dml.data.datasets import caltech101, cars, cub, folder, inshop, manifest, omniglot, sop
from dml.data.download import extract
from dml.data.split import Split, describe
from dml.errors import Note, UserError, permitted, printed_notes

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
    check_split(split)
    if name in OWN:
        check_files(split.train, split.query, split.gallery)
    else:
        check_present(split, root)
    warn_of_copies(split)
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
    """One line a group of images of the same bytes that have different classes, sorted by name."""
    groups = [sorted(group, key=lambda image: image.name) for group in copies(split)]
    lines = [
        " = ".join(f"{image.name} (class '{image.label}')" for image in group)
        for group in groups
        if len({image.label for image in group}) > 1
    ]
    return "\n".join([f"Identical images under different classes: {len(lines)}", *sorted(lines)])


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
