from pathlib import Path

import pytest
from fake_benchmarks import TINY_INSHOP, write_inshop

from dml.data.datasets import inshop
from dml.errors import UserError


def test_the_published_counts(tmp_path: Path) -> None:
    split = inshop.load(write_inshop(tmp_path, inshop.COUNTS, pixels=False))
    assert split.gallery is not None
    assert (len(split.train), len(split.query), len(split.gallery)) == (25_882, 14_218, 12_612)
    assert len(set(split.train.labels)) == 3_997
    assert len({*split.query.labels, *split.gallery.labels}) == 3_985


def test_query_and_gallery_are_apart(tmp_path: Path) -> None:
    split = inshop.load(write_inshop(tmp_path), counts=TINY_INSHOP)
    assert split.gallery is not None
    assert split.query.labels.tolist() == [2, 2, 3, 4]
    assert split.gallery.labels.tolist() == [2, 2, 3, 3, 4, 4]
    assert split.query.names[0] == "img/WOMEN/Dresses/id_00000002/05_1_front.jpg"
    assert not {*split.query.names} & {*split.gallery.names}
    assert all(Path(image).is_file() for image in [*split.query.images, *split.gallery.images])


def test_the_layout_of_the_shared_drive(tmp_path: Path) -> None:
    flat, nested = (
        write_inshop(tmp_path / "flat"),
        tmp_path / "nested" / "In-shop Clothes Retrieval Benchmark",
    )
    (nested / "Img").mkdir(parents=True)
    (nested / "Eval").mkdir()
    (flat / "img").rename(nested / "Img" / "img")
    (flat / "list_eval_partition.txt").rename(nested / "Eval" / "list_eval_partition.txt")
    split = inshop.load(nested.parent, counts=TINY_INSHOP)
    assert all(Path(image).is_file() for image in split.train.images)
    assert split.train.names[0] == "img/WOMEN/Dresses/id_00000000/00_1_front.jpg"


def test_an_unknown_role_is_named(tmp_path: Path) -> None:
    file = write_inshop(tmp_path) / "list_eval_partition.txt"
    file.write_text(file.read_text().replace("query", "val", 1))
    with pytest.raises(UserError, match=r"list_eval_partition.txt, line 8: expected .*train\|query\|gallery"):
        inshop.load(tmp_path, counts=TINY_INSHOP)


def test_a_missing_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"does not hold both img/ and list_eval_partition.txt .*dml.prepare inshop"
    ):
        inshop.load(tmp_path / "nowhere")
