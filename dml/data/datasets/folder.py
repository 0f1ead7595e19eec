"""Your own images, one folder per class."""

from collections.abc import Sequence
from pathlib import Path

from dml.data.datasets.annotations import entries_of, folders_of, split_by_class
from dml.data.split import Split
from dml.errors import UserError, quote

LAYOUTS = "<class>/<image>, or train/ and test/ (or train/, query/ and gallery/) with <class>/<image> in each"
ROLES = {"train": "train", "test": "query", "query": "query", "gallery": "gallery"}


def load(
    root: str | Path, test_share: float | None = None, test_classes: Sequence[str | int] | None = None
) -> Split:
    """A tree of images, as it is sorted into folders.

    - `<root>/<class>/<image>`: split by class; the last by name test, unless `test_classes` says which.
    - `<root>/train/<class>/<image>` with `test/`, whose images search one another, or with `query/` and
      `gallery/`: split as it is.

    Args:
        root: folder of the tree.
        test_share: part of the classes that test, above 0 and below 1; at least one class is on either side.
            None for a half.
        test_classes: names of the classes that test, instead of a share.

    Raises:
        UserError: another layout, or an empty class.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"dataset.root={root} is not a folder: give one with {LAYOUTS}.")
    names = {folder.name for folder in folders_of(root)}
    if "train" not in names or not names & {"test", "query", "gallery"}:
        entries = entries_of(root, "train")
        test = _choose(root, list(dict.fromkeys(image.label for image in entries)), test_share, test_classes)
        return split_by_class(entries, test)
    for key, value in {"test_share": test_share, "test_classes": test_classes}.items():
        if value is not None:
            raise UserError(f"{root} is split into train/ and test already: leave out dataset.{key}.")
    if names not in ({"train", "test"}, {"train", "query", "gallery"}):
        raise UserError(
            f"{root} holds {', '.join(sorted(names))}: beside train/ there must be exactly test/, or exactly "
            "query/ and gallery/; move the others away."
        )
    folders = [name for name in ROLES if name in names]
    return Split.of_files(
        image for name in folders for image in entries_of(root / name, ROLES[name], f"{name}/")
    )


def _choose(
    root: Path, classes: list[str], share: float | None, test_classes: Sequence[str | int] | None
) -> set[str]:
    """The classes that test."""
    if len(classes) < 2:
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
        raise UserError(f"dataset.test_classes has {quote(unknown)}, which is no folder of {root}.")
    if not 0 < len(chosen) < len(classes):
        raise UserError(
            f"dataset.test_classes must name some of the {len(classes)} classes, not none or all."
        )
    return chosen
