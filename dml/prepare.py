"""Bring a dataset to where training finds it, check it, and say what is there.

    python -m dml.prepare cub --root data
    python -m dml.prepare cars --root data --archive cars_train.tgz cars_test.tgz car_devkit.tgz
    python -m dml.prepare omniglot_small dataset.subset=small2 --root data
    python -m dml.prepare folder --root my_images --duplicates

What is there already is checked and left as it is, so running it again does no harm.
"""

import argparse
import shutil
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.config.cli import CONF
from dml.data.checks import check_dataset, copies
from dml.data.download import Source, check_md5, extract
from dml.data.split import Split, describe
from dml.errors import Note, UserError, permitted, printed_notes

LOOSE = {".mat", ".txt", ".csv"}


def datasets() -> list[str]:
    """Names of all datasets, one a yaml in conf/dataset."""
    return sorted(file.stem for file in Path(CONF, "dataset").glob("*.yaml"))


@permitted()
def prepare(name: str, root: Path, archives: Sequence[Path] = (), overrides: Sequence[str] = ()) -> Split:
    """The dataset in `root`; if it is not there, unpacked from `archives` or fetched.

    Args:
        name: of the dataset's yaml.
        root: what `dataset.root` will be.
        archives: archives, or loose annotation files, that lie elsewhere.
        overrides: of the dataset's keys, such as "dataset.subset=small2".

    Raises:
        UserError: it cannot be had, or is not what it should be; see `check_dataset`.
    """
    config = split_config(name, root, overrides)
    try:
        split = instantiate(config)()
    except UserError:
        split = _brought(config, root, archives)
    else:
        if archives:
            warnings.warn(
                f"{root} holds {name} already, so nothing was unpacked into it.", Note, stacklevel=2
            )
    check_dataset(split)
    return split


def split_config(name: str, root: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """The node of the dataset's yaml that loads its split; it has a key `download` if it can be fetched."""
    config = OmegaConf.create({"dataset": OmegaConf.load(Path(CONF, "dataset", f"{name}.yaml"))})
    OmegaConf.set_struct(config, True)
    try:
        config.merge_with_dotlist(list(overrides))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{' '.join(overrides)} does not fit dataset={name}: {reason}.") from None
    config.dataset.root = str(root)
    return config.dataset.split


def _brought(config: DictConfig, root: Path, archives: Sequence[Path]) -> Split:
    """The dataset from what a person has, or fetched.

    Given an archive, nothing is fetched: that would hide that it was the wrong one.
    """
    sources = getattr(import_module(config._target_.rpartition(".")[0]), "SOURCES", ())
    # The loose files first: they are in place even if an archive turns out to have been unpacked already.
    for archive in sorted(archives, key=lambda archive: not _is_loose(archive)):
        adopt(archive, root, sources)
    load, packed = instantiate(config), [archive.name for archive in archives if not _is_loose(archive)]
    if not packed:
        return load(download=True) if "download" in config else load()
    try:
        return load()
    except UserError as error:
        raise UserError(f"{', '.join(packed)} was unpacked, but {error}") from None


def _is_loose(archive: Path) -> bool:
    return archive.suffix.lower() in LOOSE


def adopt(archive: Path, root: Path, sources: Sequence[Source] = ()) -> None:
    """Unpack an archive into `root`, or copy a loose annotation file there.

    One with the name of an official file must have its md5; under another name, as mirrors pack them anew, only
    what it holds is checked, by the dataset.
    """
    if archive.is_dir():
        raise UserError(
            f"--archive {archive} is a folder: what is unpacked already is used where it lies, with --root {archive}."
        )
    if not archive.is_file():
        raise UserError(f"--archive {archive} is not a file: name the archive as it was downloaded.")
    for source in sources:
        if Path(source.file).name == archive.name:
            anew = "" if _is_loose(archive) else "; if a mirror packed it anew, rename it to have it unpacked"
            check_md5(archive, source.md5, f"get it again{anew}")
    if not _is_loose(archive):
        extract(archive, root)
    elif not (root / archive.name).exists():
        try:
            root.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, root / archive.name)
        except OSError as error:
            raise UserError(f"Cannot copy {archive} to {root}: {error.strerror}.") from None


def report(name: str, split: Split, root: Path, overrides: Sequence[str] = ()) -> str:
    """What is there, the split's fingerprint, and the next command."""
    command = " ".join([f"dataset={name}", *overrides])
    return f"{describe(name, split)}\nNext: python -m dml.train {command} \"dataset.root='{root}'\""


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
        prog="python -m dml.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", choices=datasets())
    parser.add_argument("overrides", nargs="*", metavar="dataset.KEY=VALUE", help="as for training")
    parser.add_argument("--root", type=Path, required=True, help="what dataset.root will be")
    parser.add_argument("--archive", type=Path, nargs="+", default=[], help="archives that you have already")
    parser.add_argument("--duplicates", action="store_true", help="look for one image under several classes")
    given = parser.parse_intermixed_args(argv)
    with printed_notes():
        try:
            split = prepare(given.dataset, given.root, given.archive, given.overrides)
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Stopped; run the same command again to go on.", file=sys.stderr)
            return 130
    print(report(given.dataset, split, given.root, given.overrides))
    if given.duplicates:
        print(report_duplicates(split))
    return 0


if __name__ == "__main__":
    sys.exit(main())
