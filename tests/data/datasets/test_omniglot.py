"""Omniglot: classes, sides, and the images as they are kept."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.data.datasets import omniglot
from dml.data.split import describe
from dml.errors import UserError


def tree(folder: Path, characters: dict[str, int]) -> Path:
    """Alphabets of so many characters × 20 drawings of 105×105: a black stroke on white paper."""
    for alphabet, count in characters.items():
        for c in range(1, count + 1):
            (folder / alphabet / f"character{c:02}").mkdir(parents=True)
            for drawer in range(1, 21):
                drawing = np.ones((105, 105), dtype=bool)
                drawing[:, 40:60] = False
                file = folder / alphabet / f"character{c:02}" / f"00{c:02}_{drawer:02}.png"
                Image.fromarray(drawing).save(file)
    return folder.parent


@pytest.fixture(autouse=True)
def few_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives in the size of the trees above."""
    for name, characters in {
        "images_background": 3,
        "images_evaluation": 2,
        "images_background_small2": 6,
    }.items():
        monkeypatch.setitem(omniglot.ARCHIVES, name, (characters, ""))


def small2(root: Path) -> Path:
    return tree(root / "images_background_small2", {"E": 1, "D": 1, "a": 2, "B": 1, "C": 1})


def test_three_alphabets_of_a_small_set_train_and_two_test(tmp_path: Path) -> None:
    split = omniglot.load_small(small2(tmp_path), "small2")
    names = ["B/character01", "C/character01", "D/character01", "E/character01"]
    assert list(split.classes) == [*names, "a/character01", "a/character02"]
    assert split.train.labels.tolist() == np.repeat([0, 1, 2], 20).tolist()
    assert split.query.labels.tolist() == np.repeat([3, 4, 5], 20).tolist()
    assert split.query.names[-1] == "images_background_small2/a/character02/0002_20.png"


def test_images_are_small_and_ink_is_bright(tmp_path: Path) -> None:
    images = omniglot.load_small(small2(tmp_path), "small2").train.images
    assert isinstance(images, np.ndarray)
    assert (images.dtype, images.shape) == (np.uint8, (60, 28, 28))
    assert (images[:, :, :9] == 0).all()
    assert (images[:, :, 12:14] == 255).all()


def test_the_full_set_trains_on_background_and_tests_on_evaluation(tmp_path: Path) -> None:
    tree(tmp_path / "images_background", {"Z": 3})
    tree(tmp_path / "images_evaluation", {"A": 2})
    split = omniglot.load(tmp_path)
    names = ["Z/character01", "Z/character02", "Z/character03", "A/character01", "A/character02"]
    assert list(split.classes) == names
    assert (len(split.train), len(split.query)) == (60, 40)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not hold images_background_small1/.*dataset.download=true"):
        omniglot.load_small(tmp_path)
    with pytest.raises(UserError, match="does not hold images_background/"):
        omniglot.load(tmp_path)
    with pytest.raises(UserError, match="subset=small3 must be small1 or small2"):
        omniglot.load_small(tmp_path, "small3")
    tree(tmp_path / "images_background_small1", {"A": 2})
    with pytest.raises(UserError, match="2 characters, not 136"):
        omniglot.load_small(tmp_path)
    drawing = small2(tmp_path) / "images_background_small2" / "B" / "character01" / "0001_07.png"
    drawing.write_bytes(drawing.read_bytes()[:40])
    with pytest.raises(UserError, match=r"0001_07.png is empty or not an image"):
        omniglot.load_small(tmp_path, "small2")
    drawing.unlink()
    with pytest.raises(UserError, match=r"B/character01 holds 19 drawings, not 20"):
        omniglot.load_small(tmp_path, "small2")


def test_blanked_drawings_are_refused(shared_dir: Path, tmp_path: Path) -> None:
    """As many drawings of as many characters, but some are blank."""
    with zipfile.ZipFile(shared_dir / "data" / "images_background_small1.zip") as archive:
        archive.extractall(tmp_path)
    drawings = sorted((tmp_path / "images_background_small1").glob("Latin/*/*_01.png"))
    Image.new("1", (105, 105), 1).save(drawings[3])
    with pytest.raises(
        UserError, match=r"small1 holds other drawings than the official images_background_small1.zip"
    ):
        omniglot.load_small(tmp_path)


def test_the_real_small_set_and_its_raw_pixels(shared_dir: Path, tmp_path: Path) -> None:
    """Recall@1 of the pixels themselves is 0.412: the images are what published figures were measured on."""
    with zipfile.ZipFile(shared_dir / "data" / "images_background_small1.zip") as archive:
        archive.extractall(tmp_path)
    split = omniglot.load_small(tmp_path)
    assert describe("omniglot_small", split).endswith("Split fingerprint: 9c663f382d5f (the official list)")
    train, test = split.classes[:70], split.classes[70:]
    assert {name.split("/")[0] for name in train} == {"Balinese", "Early_Aramaic", "Greek"}
    assert {name.split("/")[0] for name in test} == {"Korean", "Latin"}
    assert (len(split.train), len(split.query)) == (1400, 1320)
    x = np.asarray(split.query.images, dtype=np.float64).reshape(1320, -1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    S = x @ x.T
    np.fill_diagonal(S, -1)
    assert (split.query.labels[S.argmax(axis=1)] == split.query.labels).mean() == pytest.approx(
        0.412, abs=5e-4
    )
