"""Omniglot: handwritten characters of fifty alphabets, each drawn by twenty people."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dml.data.download import Origin, Source, folder_of
from dml.data.read_image import read_image
from dml.data.split import Samples, Split
from dml.errors import UserError

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"

ARCHIVES = {  # number of characters, and md5 of the zip
    "images_background": (964, "68d2efa1b9178cc56df9314c21c6e718"),
    "images_evaluation": (659, "6b91aef0f799c5bb55b94e3f2daec811"),
    "images_background_small1": (136, "e704a628b5459e08445c13499850abc4"),
    "images_background_small2": (156, "b75a71a51d3b13f821f212756fe481fd"),
}
ORIGIN = Origin(
    "omniglot",
    tuple(Source(f"{name}.zip", name, md5, f"{URL}/{name}.zip") for name, (_, md5) in ARCHIVES.items()),
    f"or get it by hand from {URL} and name it with --archive.",
)
# Of the others they are not known here. Pixels: SHA-256 of all drawings, one byte a pixel, in byte order of the paths.
PIXELS = {"images_background_small1": "ec6257f7e1450fd2be562a2373e4ab05611a673b8b7e4c8e2a4955cf3e2e9c54"}
FINGERPRINTS = {"images_background_small1": "9c663f382d5f"}
DRAWERS = 20
SMALL_TRAIN_ALPHABETS = 3
SIDE = 28


def load(root: str | Path, download: bool = False) -> Split:
    """The full set: the 964 characters of images_background train, the 659 of images_evaluation test.

    A class is a character, `<alphabet>/<character>`, of 20 images. Images are decoded once and kept in
    memory: (N, 28, 28) uint8, inverted, so that ink is 255 and paper 0.
    Source: Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through probabilistic program
    induction, Science 2015.

    Args:
        root: folder that holds images_background/ and images_evaluation/.
        download: fetch and unpack what is not there.
    """
    train_classes, train = _read(Path(root), "images_background", download)
    test_classes, test = _read(Path(root), "images_evaluation", download)
    test = replace(test, labels=test.labels + len(train_classes))
    return Split([*train_classes, *test_classes], train, test)


def load_small(root: str | Path, subset: str = "small1", download: bool = False) -> Split:
    """A small official set of five alphabets: the first three in byte order train, the last two test.

    Images as in `load`.

    Args:
        root: folder that holds images_background_small1/ or images_background_small2/.
        subset: "small1" or "small2".
        download: fetch and unpack it if it is not there.
    """
    name = f"images_background_{subset}"
    if name not in ARCHIVES:
        raise UserError(f"dataset.subset={subset} must be small1 or small2.")
    classes, samples = _read(Path(root), name, download)
    alphabets = np.array([character.split("/")[0] for character in classes])
    train = np.isin(alphabets, np.unique(alphabets)[:SMALL_TRAIN_ALPHABETS])[samples.labels]
    return Split(classes, samples.subset(train), samples.subset(~train), official=FINGERPRINTS.get(name))


def _read(root: Path, name: str, download: bool) -> tuple[list[str], Samples]:
    """The characters of an archive, in byte order, and their drawings."""
    expected, _ = ARCHIVES[name]
    dataset = "omniglot_small" if "small" in name else "omniglot"
    sources = [source for source in ORIGIN.sources if source.makes == name]
    folder = folder_of(root, ORIGIN._replace(dataset=dataset, sources=sources), download)
    characters = sorted(c for c in folder.glob("*/*") if c.is_dir())
    if len(characters) != expected:
        raise UserError(f"{folder} holds {len(characters)} characters, not {expected}: unpack it again.")
    files, images, pixels = list[Path](), [], hashlib.sha256()
    for character in characters:
        drawings = sorted(character.glob("*.png"))
        if len(drawings) != DRAWERS:
            raise UserError(f"{character} holds {len(drawings)} drawings, not {DRAWERS}: unpack it again.")
        files += drawings
    for file in files:
        drawing = read_image(file, channels=1)
        pixels.update(drawing.tobytes())
        # Ink is 255.
        images.append(255 - np.asarray(drawing.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    if PIXELS.get(name, pixels.hexdigest()) != pixels.hexdigest():
        raise UserError(
            f"{folder} holds other drawings than the official {name}.zip: move it away and unpack it again."
        )
    labels = np.repeat(np.arange(len(characters)), DRAWERS)
    names = [file.relative_to(root).as_posix() for file in files]
    return [f"{c.parent.name}/{c.name}" for c in characters], Samples(np.stack(images), labels, names)
