"""Omniglot: handwritten characters of fifty alphabets, each drawn by twenty people."""

from pathlib import Path

import numpy as np
from PIL import Image

from dml.data.acquire import Source, acquire
from dml.data.read_image import read_image
from dml.data.split import Samples, Split
from dml.errors import UserError

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
# None: no digest is published.
MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
    "images_background_small1": "e704a628b5459e08445c13499850abc4",
    "images_background_small2": None,
}
# Characters in each archive, where they are known to us.
CHARACTERS = {"images_background": 964, "images_evaluation": 659, "images_background_small1": 136}
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

    Raises:
        UserError: a folder is missing or holds another number of characters or drawings.
    """
    train = _characters(Path(root), "images_background", download)
    test = _characters(Path(root), "images_evaluation", download)
    return _split(Path(root), train, test)


def load_small(root: str | Path, subset: str = "small1", download: bool = False) -> Split:
    """A small official set of five alphabets: the first three in byte order train, the last two test.

    Images as in `load`.

    Args:
        root: folder that holds images_background_small1/ or images_background_small2/.
        subset: "small1" or "small2".
        download: fetch and unpack it if it is not there.

    Raises:
        UserError: another subset; the folder is missing or holds another number of characters or drawings.
    """
    name = f"images_background_{subset}"
    if name not in MD5:
        raise UserError(f"dataset.subset={subset} must be small1 or small2.")
    characters = _characters(Path(root), name, download)
    alphabets = sorted({character.parent.name for character in characters})
    learnt = alphabets[:SMALL_TRAIN_ALPHABETS]
    train = [c for c in characters if c.parent.name in learnt]
    test = [c for c in characters if c.parent.name not in learnt]
    return _split(Path(root), train, test)


def _characters(root: Path, name: str, download: bool) -> list[Path]:
    """The folders `<alphabet>/<character>` of an archive, in byte order."""
    folder = root / name
    if download and not folder.is_dir():
        archive = Source(f"{name}.zip", makes=name, md5=MD5[name], urls=(f"{URL}/{name}.zip",))
        acquire(root, [archive], f"or get {archive.file} by hand from {URL} and name it with --archive.")
    if not folder.is_dir():
        raise UserError(
            f"dataset.root={root} does not hold {name}/: set dataset.root to the folder that does, "
            f"set dataset.download=true, or unpack {URL}/{name}.zip there."
        )
    characters = sorted(c for c in folder.glob("*/*") if c.is_dir())
    expected = CHARACTERS.get(name, len(characters))
    if not characters or len(characters) != expected:
        raise UserError(
            f"{folder} holds {len(characters)} characters, not {expected or 'any'}: unpack it again."
        )
    return characters


def _split(root: Path, train: list[Path], test: list[Path]) -> Split:
    classes = [f"{c.parent.name}/{c.name}" for c in (*train, *test)]
    return Split(classes, _samples(root, train, 0), _samples(root, test, len(train)))


def _samples(root: Path, characters: list[Path], first_label: int) -> Samples:
    """The drawings of some characters, labelled in their order from `first_label` on."""
    drawings = [sorted(character.glob("*.png")) for character in characters]
    for character, files in zip(characters, drawings, strict=True):
        if len(files) != DRAWERS:
            raise UserError(f"{character} holds {len(files)} drawings, not {DRAWERS}: unpack it again.")
    files = [file for drawn in drawings for file in drawn]
    labels = first_label + np.repeat(np.arange(len(characters)), DRAWERS)
    images = np.stack([_drawing(file) for file in files])
    return Samples(images, labels, [file.relative_to(root).as_posix() for file in files])


def _drawing(file: Path) -> np.ndarray:
    """(28, 28) uint8, ink 255."""
    small = Image.fromarray(read_image(file, channels=1)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return 255 - np.asarray(small)
