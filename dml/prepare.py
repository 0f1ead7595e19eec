"""Bring a dataset to where training finds it, check it, and say what is there.

    python -m dml.prepare cub --root data
    python -m dml.prepare cars --root data --archive cars_train.tgz cars_test.tgz car_devkit.tgz
    python -m dml.prepare omniglot_small dataset.subset=small2 --root data
    python -m dml.prepare folder --root my_images --verify --duplicates

What is there already is checked and left as it is, so running it again does no harm.
"""

import argparse
import shlex
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.config.check import check
from dml.config.cli import CONF, one_sentence
from dml.data.checks import BadFiles, check_dataset, copies
from dml.data.download import check_md5, extract
from dml.data.split import Split, describe
from dml.errors import UserError, note, permitted

LOOSE = {".mat", ".txt", ".csv"}


def datasets() -> list[str]:
    """Names of all datasets, one a yaml in conf/dataset."""
    return sorted(file.stem for file in Path(CONF, "dataset").glob("*.yaml"))


@permitted()
def prepare(
    name: str,
    root: Path,
    archives: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    verify: bool = False,
) -> Split:
    """The dataset in `root`; if it is not there, unpacked from `archives` or fetched.

    Args:
        name: of the dataset's yaml.
        root: what `dataset.root` will be.
        archives: archives, or loose annotation files, that lie elsewhere.
        overrides: of the dataset's keys, such as "dataset.subset=small2".
        verify: decode every image, not its header alone.
    """
    config = split_config(name, root, overrides)
    load = instantiate(config)
    try:
        split = load()
    except UserError:
        if packed := adopt(archives, root, import_module(config._target_.rpartition(".")[0])):
            try:
                split = load()
            except UserError as error:
                raise UserError(f"{', '.join(packed)} was unpacked, but {error}") from None
        else:  # with an archive nothing is fetched: that would hide that it was the wrong one
            split = load(download=True) if "download" in config else load()
    else:
        if archives:
            note(f"{root} holds {name} already, so nothing was unpacked into it.")
    check_dataset(split, decode=verify)
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
    check(config.dataset.split, "dataset.split")
    return config.dataset.split


def adopt(archives: Sequence[Path], root: Path, dataset: ModuleType) -> list[str]:
    """Copy loose annotation files into `root` and unpack archives there; returns the names of the archives.

    One with the name of an official file must have its md5; under another name, as mirrors pack them anew, only
    what it holds is checked, by the dataset.
    """
    origin = getattr(dataset, "ORIGIN", None)
    official = {Path(source.file).name: source.md5 for source in origin.sources} if origin else {}
    loose = [archive for archive in archives if archive.suffix.lower() in LOOSE]
    packed = [archive for archive in archives if archive not in loose]
    for archive in archives:
        if not archive.is_file():
            raise UserError(
                f"--archive {archive} is not a file: name the archive as it was downloaded; what is unpacked already "
                "is used where it lies, with --root."
            )
        anew = "; if a mirror packed it anew, rename it to have it unpacked" if archive in packed else ""
        check_md5(archive, official.get(archive.name), f"get it again{anew}")
    # The loose files first: they are in place even if an archive turns out to have been unpacked already.
    for archive in loose:
        if not (root / archive.name).exists():
            with permitted(root / archive.name):
                root.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(archive, root / archive.name)
    for archive in packed:
        extract(archive, root)
    return [archive.name for archive in packed]


def report_duplicates(split: Split) -> str:
    """One line a group of images of the same bytes that have different classes, sorted by name."""
    groups = [sorted(group, key=lambda image: image.name) for group in copies(split)]
    lines = [
        " = ".join(f"{image.name} (class '{image.label}')" for image in group)
        for group in groups
        if len({image.label for image in group}) > 1
    ]
    return "\n".join([f"Identical images under different classes: {len(lines)}", *sorted(lines)])


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dml.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", choices=datasets())
    parser.add_argument("overrides", nargs="*", metavar="dataset.KEY=VALUE", help="as for training")
    parser.add_argument("--root", type=Path, required=True, help="what dataset.root will be")
    parser.add_argument("--archive", type=Path, nargs="+", default=[], help="archives that you have already")
    parser.add_argument("--verify", action="store_true", help="decode every image, not its header alone")
    parser.add_argument("--duplicates", action="store_true", help="look for one image under several classes")
    given = parser.parse_intermixed_args(argv)
    overrides = [override for override in given.overrides if override != "verify=true"]
    verify = given.verify or len(overrides) < len(given.overrides)
    with one_sentence():
        try:
            split = prepare(given.dataset, given.root, given.archive, overrides, verify)
        except BadFiles as error:
            each = [f"\n  {problem.rpartition(': ')[0]}" for problem in error.problems]
            raise UserError(f"{error}{''.join(each) if len(each) > 1 else ''}") from None
        command = shlex.join([f"dataset={given.dataset}", *overrides])
        print(describe(given.dataset, split))
        print(f"Next: python -m dml.train {command} \"dataset.root='{given.root}'\"")
        if given.duplicates:
            print(report_duplicates(split))


if __name__ == "__main__":
    main()
