"""Caltech-101: which folders are categories, and on which side they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.data.checks import check_files, check_split
from dml.data.datasets import caltech101
from dml.errors import UserError


def tree(root: Path, categories: int = 100) -> Path:
    """Categories c00 … of two images, two folders that are none, and a stray file."""
    names = [f"c{i:02}" for i in range(categories - 1)]
    for name in ["BACKGROUND_Google", "Faces_easy", "Zebra", *names]:
        folder = root / "101_ObjectCategories" / name
        folder.mkdir(parents=True)
        for i in (1, 2):
            Image.new("RGB", (4, 4)).save(folder / f"image_{i:04}.jpg")
    (root / "101_ObjectCategories" / "notes.txt").touch()
    return root


def test_fifty_categories_by_name_train_and_fifty_test(tmp_path: Path) -> None:
    split = caltech101.load(tree(tmp_path))
    # Upper case comes before lower in byte order.
    assert list(split.classes) == ["Zebra", *(f"c{i:02}" for i in range(99))]
    assert split.train.labels.tolist() == np.repeat(np.arange(50), 2).tolist()
    assert split.query.labels.tolist() == np.repeat(np.arange(50, 100), 2).tolist()
    assert split.train.names[:2] == [f"101_ObjectCategories/Zebra/image_000{i}.jpg" for i in (1, 2)]
    assert [Path(f).parent.name for f in split.query.images[-2:]] == ["c98", "c98"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not hold 101_ObjectCategories/.*dataset.download=true"):
        caltech101.load(tmp_path)
    tree(tmp_path / "few", categories=99)
    with pytest.raises(UserError, match="99 categories, not 100"):
        caltech101.load(tmp_path / "few")
    for image in (tree(tmp_path / "empty") / "101_ObjectCategories" / "c07").iterdir():
        image.unlink()
    with pytest.raises(UserError, match="c07 holds no"):
        caltech101.load(tmp_path / "empty")


def test_the_real_subset(shared_dir: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(shared_dir / "data" / "caltech101-128.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    split = caltech101.load(tmp_path)
    assert (len(split.train) + len(split.query), len(split.classes)) == (5233, 100)
    assert (split.classes[0], split.classes[49], split.classes[50], split.classes[99]) == (
        "Faces",
        "helicopter",
        "ibis",
        "yin_yang",
    )
    check_split(split)
    check_files([*split.train.images, *split.query.images])
