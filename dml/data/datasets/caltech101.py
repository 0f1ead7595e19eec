"""Caltech-101: photographs of a hundred kinds of objects."""

from pathlib import Path

from dml.data.datasets.annotations import entries_of, split_by_class
from dml.data.download import Origin, Source, folder_of
from dml.data.split import Split
from dml.errors import UserError

TOP = "101_ObjectCategories"
CATEGORIES = 100
TRAIN_CLASSES = 50
# Clutter that is no category, and the faces of Faces once more, cut out.
LEFT_OUT = {"BACKGROUND_Google", "Faces_easy"}
URL = "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"
# The official zip holds a tar of the images.
TAR = f"caltech-101/{TOP}.tar.gz"
ORIGIN = Origin(
    "caltech101",
    (
        Source("caltech-101.zip", makes="caltech-101", md5="3138e1922a9193bfa496528edbbc45d0", url=URL),
        Source(TAR, makes=TOP, md5=None),
    ),
    f"or get caltech-101.zip by hand from {URL} and name it with --archive.",
)


def load(root: str | Path, download: bool = False) -> Split:
    """The first fifty categories in byte order of their names train, the last fifty test.

    Layout: `101_ObjectCategories/<category>/image_NNNN.jpg`. Of the folders two are left out:
    BACKGROUND_Google, which is no category, and Faces_easy, which shows the faces of Faces. The number of
    images is as found, since reduced copies of the official archive are in use too.
    Source: Li, Andreeto, Ranzato, Perona, Caltech 101, CaltechDATA 2022, doi 10.22002/D1.20086.

    Args:
        root: folder that holds 101_ObjectCategories/.
        download: fetch and unpack the official archive if that is not there. The tar in it is unpacked in any case.
    """
    root = Path(root)
    top = folder_of(root, ORIGIN, download or (root / TAR).is_file())
    entries = entries_of(top, "train", f"{TOP}/", LEFT_OUT)
    categories = list(dict.fromkeys(image.label for image in entries))
    if len(categories) != CATEGORIES:
        raise UserError(
            f"{top} holds {len(categories)} categories, not {CATEGORIES} "
            f"(besides {' and '.join(sorted(LEFT_OUT))}): unpack it again."
        )
    return split_by_class(entries, categories[TRAIN_CLASSES:])
