"""Cars196: 16,185 photographs of 196 models of cars, in the layouts that archives and mirrors have."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from dml.data.datasets.annotations import entries_of, folders_of
from dml.data.download import Origin, Source, located
from dml.data.split import Counts, Entry, Split, check_counts
from dml.errors import UserError

COUNTS = Counts(train_classes=98, test_classes=98, train_images=8_054, query_images=8_131)
LAYOUTS = (
    "car_ims/ with cars_annos.mat, or cars_train/ and cars_test/ with devkit/cars_train_annos.mat and "
    "cars_test_annos_withlabels.mat, or train/ and test/ with a folder for every class"
)
ORIGIN = Origin(
    "cars",
    (
        Source("car_ims.tgz", makes="car_ims", md5="d5c8f0aa497503f355e17dc7886c3f14"),
        Source("cars_annos.mat", makes="cars_annos.mat", md5="b407c6086d669747186bd1d764ff9dbc"),
    ),
    "get the images from a mirror (pytorch/vision issue 7545 lists some, Kaggle has several as 'Stanford "
    "Cars', and http://ftp.cs.stanford.edu/cs/cvgl/CARS196.zip may still be there), name their archives with "
    f"--archive, or unpack them into the root so that it holds {LAYOUTS}.",
)
SIDES = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
FIRST_CLASS = "AM General Hummer SUV 2000"


def load(root: str | Path, download: bool = False, counts: Counts = COUNTS) -> Split:
    """Classes 1–98 train, 99–196 test and search one another; the archive's own flags are not used.

    The same images get other names in different layouts, so a split's fingerprint tells the layouts apart.
    Source: Krause, Stark, Deng, Fei-Fei, 3D Object Representations for Fine-Grained Categorization, 2013;
    split of Song et al., CVPR 2016.

    Args:
        root: folder that holds one of the layouts in `LAYOUTS`, itself or one level down.
        download: unpack car_ims.tgz if it lies in root; no public host has it.
        counts: what to find; as many of the first classes as it says train.
    """
    root = Path(root)
    sought = f"Cars196, that is {LAYOUTS}"
    entries = located(root, ORIGIN, lambda: _find(root, counts.train_classes), sought, download)
    return check_counts(Split.of_files(entries), counts, "Cars196", root)


def _find(root: Path, train_classes: int) -> list[Entry] | None:
    """The images in class order, from the first layout recognised."""
    for base in (root, *folders_of(root)):
        for layout in (_original, _official_sides, _class_folders):
            if images := layout(base, train_classes):
                return images
    return None


def _original(base: Path, train_classes: int) -> list[Entry]:
    """car_ims/000001.jpg …, all in cars_annos.mat."""
    annotations = base / "cars_annos.mat"
    if not annotations.is_file() or not (base / "car_ims").is_dir():
        return []
    labels, paths = _variable(annotations, "annotations", "class", "relative_im_path")
    (names,) = _variable(annotations, "class_names")
    return _entries(
        [(c, path, base / path) for c, path in zip(labels, paths, strict=True)], names, train_classes
    )


def _official_sides(base: Path, train_classes: int) -> list[Entry]:
    """cars_train/00001.jpg … and cars_test/00001.jpg …, the images unpacked in place or once more nested."""
    found = []
    for side, file in SIDES.items():
        folder = next((f for f in (base / side / side, base / side) if f.is_dir()), None)
        annotations = _annotations(base, file)
        if folder is None or annotations is None:
            return []
        labels, images = _variable(annotations, "annotations", "class", "fname")
        found += [(c, f"{side}/{image}", folder / image) for c, image in zip(labels, images, strict=True)]
    meta = _annotations(base, "cars_meta.mat")
    names = _variable(meta, "class_names")[0] if meta else []
    return _entries(sorted(found), names, train_classes)


def _class_folders(base: Path, train_classes: int) -> list[Entry]:
    """train/<class>/<image> and test/<class>/<image>, or images/<class>/<image>.

    The folders carry no class numbers, but classes are numbered alphabetically, and class 98 is the last before "f".
    """
    sides = [side for side in ("train", "test", "images") if (base / side / FIRST_CLASS).is_dir()]
    images = [image for side in sides for image in entries_of(base / side, "query", f"{side}/")]
    return [image._replace(role="train") if image.label.casefold() < "f" else image for image in images]


def _annotations(base: Path, name: str) -> Path | None:
    places = (base / "devkit", base, base / "car_devkit" / "devkit", base / "car_devkit")
    return next((place / name for place in places if (place / name).is_file()), None)


def _variable(file: Path, name: str, *fields: str) -> list[list[Any]]:
    """A variable in a MATLAB file, or the fields of one, each a list."""
    with file.open("rb") as opened:
        try:
            variable = np.atleast_1d(loadmat(opened, variable_names=[name], squeeze_me=True)[name])
            return [variable[field].tolist() for field in fields] if fields else [variable.tolist()]
        # For a damaged file loadmat raises many kinds of errors.
        except Exception as error:
            raise UserError(f"{file} is not a MATLAB file with '{name}' ({error}): get it again.") from None


def _entries(found: list[tuple[int, str, Path]], names: list[str], train_classes: int) -> list[Entry]:
    """The images of (class, from 1; name; file), each class with its name or, where that is not given, its number."""
    name_of = dict(enumerate(names, start=1))
    return [
        Entry(
            "train" if label <= train_classes else "query", name_of.get(label, f"class {label}"), name, image
        )
        for label, name, image in found
    ]
