import warnings
from pathlib import Path

import numpy as np
import pytest
from fake_benchmarks import TINY, write_cub

from dml.data.datasets import cub
from dml.errors import UserError


def test_the_published_counts(tmp_path: Path) -> None:
    split = cub.load(write_cub(tmp_path, cub.COUNTS, pixels=False))
    assert (len(split.train), len(split.query), split.gallery) == (5_864, 5_924, None)
    assert np.unique(split.train.labels).tolist() == list(range(100))
    assert np.unique(split.query.labels).tolist() == list(range(100, 200))


def test_classes_split_not_the_archives_flags(tmp_path: Path) -> None:
    split = cub.load(write_cub(tmp_path), counts=TINY)
    # 5 images of 2 classes, then 7 of 3, spread evenly and in order.
    assert split.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert split.query.labels.tolist() == [2, 2, 2, 3, 3, 4, 4]
    assert split.classes == ["001.Bird_1", "002.Bird_2", "003.Bird_3", "004.Bird_4", "005.Bird_5"]
    assert split.train.names[0] == "CUB_200_2011/images/001.Bird_1/Bird_1_0000.jpg"
    assert all(Path(image).is_file() for image in [*split.train.images, *split.query.images])


def test_a_missing_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not hold CUB_200_2011/: .* dml.prepare cub --root"):
        cub.load(tmp_path / "nowhere")


def test_the_archives_own_folder_as_root_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"name its parent, {tmp_path}\.$"):
        cub.load(write_cub(tmp_path) / "CUB_200_2011")


@pytest.mark.parametrize("line", ["7", "x 001.Bird_1/a.jpg"])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = write_cub(tmp_path) / "CUB_200_2011" / "images.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(UserError, match=rf"images.txt, line 3: expected '<image id> <path>', found '{line}'"):
        cub.load(tmp_path, counts=TINY)


def test_an_image_without_a_class(tmp_path: Path) -> None:
    file = write_cub(tmp_path) / "CUB_200_2011" / "image_class_labels.txt"
    file.write_text("\n".join(file.read_text().splitlines()[1:]))
    with pytest.raises(UserError, match=r"image_class_labels.txt puts image 1 in class None"):
        cub.load(tmp_path, counts=TINY)


def test_a_missing_annotation_file(tmp_path: Path) -> None:
    (write_cub(tmp_path) / "CUB_200_2011" / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"classes.txt is missing"):
        cub.load(tmp_path, counts=TINY)


def test_other_counts_are_listed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"5 train images instead of 6, 7 query images instead of 6"):
        cub.load(write_cub(tmp_path), counts=TINY._replace(train_images=6, query_images=6))


def test_crlf_and_blank_lines_are_harmless(tmp_path: Path) -> None:
    file = write_cub(tmp_path) / "CUB_200_2011" / "images.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(cub.load(tmp_path, counts=TINY).train) == 5
