from pathlib import Path

import pytest
from fake_benchmarks import TINY, write_sop

from dml.data.datasets import sop
from dml.errors import UserError


def test_the_published_counts(tmp_path: Path) -> None:
    split = sop.load(write_sop(tmp_path, sop.COUNTS, pixels=False))
    assert (len(split.train), len(split.query), split.gallery) == (59_551, 60_502, None)
    assert (len(set(split.train.labels)), len(set(split.query.labels))) == (11_318, 11_316)


def test_a_tiny_copy(tmp_path: Path) -> None:
    split = sop.load(write_sop(tmp_path), counts=TINY)
    assert split.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert split.query.labels.tolist() == [2, 2, 2, 3, 3, 4, 4]
    assert split.query.names[0] == "Stanford_Online_Products/bicycle_final/111002_5.JPG"
    assert all(Path(image).is_file() for image in [*split.train.images, *split.query.images])


def test_a_short_line_is_named(tmp_path: Path) -> None:
    file = write_sop(tmp_path) / "Stanford_Online_Products" / "Ebay_test.txt"
    file.write_text(file.read_text().replace("7 3 1 ", "7 3 "))
    with pytest.raises(UserError, match=r"Ebay_test.txt, line 3: expected '<image id> <class id> <super"):
        sop.load(tmp_path, counts=TINY)


def test_a_missing_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Stanford_Online_Products/: .* dml.prepare sop --root"):
        sop.load(tmp_path)
