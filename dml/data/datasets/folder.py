"""Your own images, one folder per class."""

from collections.abc import Sequence
from pathlib import Path

from dml.data.datasets.annotations import Listed, folders_of, images_by_class, to_split
from dml.data.split import Split
from dml.errors import UserError, quote

LAYOUTS = "<class>/<image>, or train/ and test/ (or train/, query/ and gallery/) with <class>/<image> in each"


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
    chosen = {"test_share": test_share, "test_classes": test_classes}
    names = {folder.name for folder in folders_of(root)}
    if "train" in names and names & {"test", "query", "gallery"}:
        if given := [f"dataset.{key}" for key, value in chosen.items() if value is not None]:
            raise UserError(f"{root} is split into train/ and test already: leave out {' and '.join(given)}.")
        listed = _listed_by_role(root, names)
    else:
        by_class = images_by_class(root)
        test = _choose(root, list(by_class), test_share, test_classes)
        listed = [
            Listed("query" if label in test else "train", label, f"{label}/{image.name}", image)
            for label, images in by_class.items()
            for image in images
        ]
    return to_split(listed)


def _listed_by_role(root: Path, names: set[str]) -> list[Listed]:
    """The images of train/ and test/, or of train/, query/ and gallery/."""
    if names == {"train", "test"}:
        roles = {"train": "train", "test": "query"}
    elif names == {"train", "query", "gallery"}:
        roles = {name: name for name in ("train", "query", "gallery")}
    else:
        raise UserError(
            f"{root} holds {', '.join(sorted(names))}: beside train/ there must be exactly test/, or exactly "
            "query/ and gallery/; move the others away."
        )
    return [
        Listed(role, label, f"{folder}/{label}/{image.name}", image)
        for folder, role in roles.items()
        for label, images in images_by_class(root / folder).items()
        for image in images
    ]


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
