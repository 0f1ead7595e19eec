import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_benchmarks import TINY, write_cub, write_tree

from dml.data.datasets import cub, digits, folder
from dml.data.split import Samples, Split, describe, fingerprint


def split_of(names: list[str], labels: list[int], classes: list[str]) -> Split:
    train = Samples([Path(name) for name in names], np.array(labels, dtype=np.int64), names)
    return Split(classes, train, Samples([Path("q")], np.array([2]), ["q"]))


def test_the_value_by_hand() -> None:
    split = split_of(["1", "2"], [0, 1], ["a", "b", "c"])
    text = "query\0q\0c\ntrain\0001\0a\ntrain\0002\0b\n"
    assert fingerprint(split) == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_order_and_numbering_make_no_difference() -> None:
    split = split_of(["1", "2"], [0, 1], ["a", "b", "c"])
    assert fingerprint(split) == fingerprint(split_of(["2", "1"], [0, 1], ["b", "a", "c"]))


def test_place_makes_no_difference(tmp_path: Path) -> None:
    one, other = write_cub(tmp_path / "one"), write_cub(tmp_path / "other")
    assert fingerprint(cub.load(one, counts=TINY)) == fingerprint(cub.load(other, counts=TINY))


def test_names_classes_and_roles_make_a_difference() -> None:
    split = split_of(["1", "2"], [0, 1], ["a", "b", "c"])
    others = [
        split_of(["1", "3"], [0, 1], ["a", "b", "c"]),
        split_of(["1", "2"], [1, 0], ["a", "b", "c"]),
        split_of(["1", "2"], [0, 1], ["a", "B", "c"]),
        replace(split, train=split.query, query=split.train),
        replace(split, gallery=split.query),
    ]
    assert len({fingerprint(other) for other in [split, *others]}) == 6


def test_a_renamed_file_shows(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", {"a": 2, "b": 2})
    before = fingerprint(folder.load(root))
    shutil.move(root / "a" / "0.png", root / "a" / "9.png")
    assert fingerprint(folder.load(root)) != before


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    assert fingerprint(folder.load(write_tree(tmp_path, {"a": 2, os.fsdecode(b"caf\xe9"): 2})))


def test_the_verdict_stands_beside_the_fingerprint() -> None:
    split = split_of(["1", "2"], [0, 1], ["a", "b", "c"])
    found = fingerprint(split)
    for official, verdict in {
        None: "no official fingerprint is known here",
        found: "the official list",
        "0" * 12: f"NOT the official list, {'0' * 12}",
    }.items():
        line = describe("mine", replace(split, official=official)).splitlines()[1]
        assert line == f"Split fingerprint: {found} ({verdict})"


@pytest.mark.parametrize("canvas", [8, 16])
def test_the_digits_are_the_official_list(canvas: int) -> None:
    assert describe("digits", digits.load(canvas)).endswith("(the official list)")
