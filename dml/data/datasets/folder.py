"""Anyone's own images: a folder a class."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dml.data.datasets.annotations import Listed, folders_of, images_by_class, to_split
from dml.data.split import Split, classes_on_both_sides
from dml.errors import Note, UserError, quote

LAYOUTS = "<class>/<image>, or train/ and test/ (or train/, query/ and gallery/) with <class>/<image> in each"


def load(root: str | Path, test_share: float = 0.5, test_classes: Sequence[str] | None = None) -> Split:
    """A tree of images, as it is sorted into folders.

    - `<root>/<class>/<image>`: split by class; the last by name test, unless `test_classes` says which.
    - `<root>/train/<class>/<image>` with `test/`, whose images search one another, or with `query/` and
      `gallery/`: split as it is.

    Args:
        root: folder of the tree.
        test_share: part of the classes that test, above 0 and below 1; at least one class is on either side.
        test_classes: names of the classes that test, instead of a share.

    Raises:
        UserError: another layout, an empty class, a class on both sides, no test class with two images.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"dataset.root={root} is not a folder: give one with {LAYOUTS}.")
    names = {folder.name for folder in folders_of(root)}
    if "train" in names and names & {"test", "query", "gallery"}:
        if test_classes is not None:
            raise UserError(f"{root} is split into train/ and test already: leave out dataset.test_classes.")
        listed = _listed_by_role(root, names)
    else:
        by_class = images_by_class(root)
        test = _choose(root, list(by_class), test_share, test_classes)
        listed = [
            Listed("query" if label in test else "train", label, f"{label}/{image.name}", image)
            for label, images in by_class.items()
            for image in images
        ]
    return check_own(to_split(listed), f"dataset.root={root}")


def check_own(split: Split, where: str) -> Split:
    """The split, if training and test have images and share no class; warns of queries that can find nothing.

    Raises:
        UserError: they have none or share one, or no query has another image of its class to find.
    """
    if not len(split.train) or not len(split.query):
        raise UserError(
            f"{where} has {len(split.train)} training and {len(split.query)} test images: give both."
        )
    if both := classes_on_both_sides(split):
        raise UserError(
            f"{where} has class {quote(both)} in training and in test: retrieval is judged on classes never "
            "trained on, so put all images of a class on one side."
        )
    searched = split.query.labels if split.gallery is None else split.gallery.labels
    found_per_class = np.bincount(searched, minlength=len(split.classes)) - (split.gallery is None)
    alone = [split.classes[label] for label in np.unique(split.query.labels) if found_per_class[label] < 1]
    if len(alone) == len(np.unique(split.query.labels)):
        raise UserError(
            f"{where} has no test class with a second image to find, beginning with {quote(alone)}."
        )
    if len(np.unique(searched)) == 1:
        warnings.warn(
            f"{where} has one class to search, '{split.classes[searched[0]]}': whatever is found is right, so the "
            "figures say nothing.",
            Note,
            stacklevel=3,
        )
    if alone:
        warnings.warn(
            f"{where} has test classes without a second image to find: {quote(alone)}; "
            "their images are searched but not counted as queries.",
            Note,
            stacklevel=3,
        )
    return split


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


def _choose(root: Path, classes: list[str], share: float, test_classes: Sequence[str] | None) -> set[str]:
    """The classes that test."""
    if len(classes) < 2:
        raise UserError(
            f"dataset.root={root} has {len(classes)} class folders, but a split needs two: "
            f"the layout is {LAYOUTS}."
        )
    if test_classes is None:
        if not 0 < share < 1:
            raise UserError(f"dataset.test_share={share} must be above 0 and below 1.")
        count = min(max(1, round(share * len(classes))), len(classes) - 1)
        return set(classes[-count:])
    # The command line makes numbers of names that look like them.
    chosen = {str(name) for name in test_classes}
    if unknown := sorted(chosen - set(classes)):
        raise UserError(f"dataset.test_classes has {quote(unknown)}, which is no folder of {root}.")
    if not 0 < len(chosen) < len(classes):
        raise UserError(
            f"dataset.test_classes must name some of the {len(classes)} classes, not none or all."
        )
    return chosen
