"""Your own images, one folder per class."""

from collections.abc import Sequence
from pathlib import Path

from dml.data.datasets.annotations import entries_of, folders_of, split_by_class
from dml.data.split import Split
from dml.errors import UserError, note, quote

LAYOUTS = "<class>/<image>, or train/ and test/ (or train/, query/ and gallery/) with <class>/<image> in each"
ROLES = {"train": "train", "test": "query", "query": "query", "gallery": "gallery"}
TESTS = ({"test"}, {"query", "gallery"})
VALIDATION = {"val", "valid", "validation", "dev"}


def load(
    root: str | Path,
    test_share: float | None = None,
    test_classes: Sequence[str | int] | None = None,
    nested: bool = False,
) -> Split:
    """A tree of images, as it is sorted into folders.

    - `<root>/<class>/<image>`: split by class; the last by name test, unless `test_classes` says which.
    - `<root>/train/<class>/<image>` with `test/`, whose images search one another, or with `query/` and
      `gallery/`: split as it is. Capitals make no difference. A folder `val/` beside them is not used, with a note.
      Without `train/` there are no training images: enough to evaluate.

    Args:
        root: folder of the tree.
        test_share: part of the classes that test, above 0 and below 1; at least one class is on either side.
            None for a half.
        test_classes: names of the classes that test, instead of a share.
        nested: the images of a class may lie at any depth, `<class>/**/<image>`.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"dataset.root={root} is not a folder: give one with {LAYOUTS}.")
    sides = _sides(root)
    if not sides:
        entries = entries_of(root, "train", nested=nested)
        test = _choose(root, list(dict.fromkeys(image.label for image in entries)), test_share, test_classes)
        return split_by_class(entries, test)
    for key, value in {"test_share": test_share, "test_classes": test_classes}.items():
        if value is not None:
            raise UserError(f"{root} is split into train/ and test already: leave out dataset.{key}.")
    return Split.of_files(
        image
        for name in ROLES
        if name in sides
        for image in entries_of(sides[name], ROLES[name], f"{name}/", nested=nested)
    )


def _sides(root: Path) -> dict[str, Path]:
    """The folders train, test, query and gallery of a tree that is split already; none where there are classes."""
    folders = folders_of(root)
    sides = {folder.name.lower(): folder for folder in folders if folder.name.lower() in ROLES}
    unused = [folder.name for folder in folders if folder.name.lower() in VALIDATION]
    others = [f.name for f in folders if f.name.lower() not in VALIDATION | sides.keys()]
    tests = sides.keys() - {"train"}
    if "train" in sides and unused and not tests and folders_of(sides["train"]):
        raise UserError(
            f"{root} holds train/ and {unused[0]}/ but no test/: call the folder that tests test/, or split it into "
            "query/ and gallery/."
        )
    if "train" in sides and not tests:
        return {}
    if "train" not in sides and (tests not in TESTS or others or not any(map(folders_of, sides.values()))):
        return {}
    if tests not in TESTS or others:
        raise UserError(
            f"{root} holds {', '.join(folder.name for folder in folders)}: beside train/ there must be exactly test/, "
            "or exactly query/ and gallery/; move the others away."
        )
    for folder in folders:
        if (same := sides.get(folder.name.lower(), folder)) != folder:
            raise UserError(f"{root} holds both {folder.name}/ and {same.name}/: put their classes into one.")
    if unused:
        note(
            f"{root}/{unused[0]} is not used: protocol=paper validates on the test classes, protocol=holdout on "
            "training classes held out."
        )
    return sides


def _choose(
    root: Path, classes: list[str], share: float | None, test_classes: Sequence[str | int] | None
) -> set[str]:
    """The classes that test."""
    if len(classes) < 2 and (test_classes is None or not classes):
        raise UserError(
            f"dataset.root={root} has {len(classes)} class folders, but a split needs two: "
            f"the layout is {LAYOUTS}."
        )
    if test_classes is None:
        share = 0.5 if share is None else share
        if not 0 < share < 1:
            raise UserError(f"dataset.test_share={share} must be above 0 and below 1.")
        count = min(max(1, round(share * len(classes))), len(classes) - 1)
        return set(classes[-count:])
    if share is not None:
        raise UserError("Give dataset.test_share or dataset.test_classes, not both.")
    # The command line makes numbers of names that look like them.
    chosen = {str(name) for name in test_classes}
    if unknown := sorted(chosen - set(classes)):
        hint = "; a name that looks like a number needs quotes" if any(n.isdigit() for n in unknown) else ""
        raise UserError(f"dataset.test_classes has {quote(unknown)}, which is no folder of {root}{hint}.")
    if not chosen:
        raise UserError("dataset.test_classes=[] names no class: give some, or null for a share of them.")
    return chosen
