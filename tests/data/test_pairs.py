"""Pair lists in LFW's and CPLFW's formats, right and wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
from fake_benchmarks import write_image

from dml.data.pairs import PairList, read_pairs
from dml.errors import UserError

PEOPLE = ("Ann_Lee", "Bo", "Cy")
ANN = "Ann_Lee/Ann_Lee_000"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three people with four images each, named as LFW names them."""
    for name in PEOPLE:
        for n in range(1, 5):
            write_image(tmp_path / name / f"{name}_{n:04d}.{'png' if name == 'Bo' else 'jpg'}")
    return tmp_path


def written(root: Path, *lines: str) -> Path:
    file = root / "pairs.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def pairs_in(found: PairList) -> list[tuple[str, str, bool, int]]:
    names = [str(file.name) for file in found.files]
    return [
        (names[i], names[j], bool(same), int(k))
        for i, j, same, k in zip(found.first, found.second, found.same, found.fold, strict=True)
    ]


def test_lfw(root: Path) -> None:
    lines = ["2\t1", "Ann_Lee\t1\t2", "Ann_Lee\t1\tBo\t3", "", "Bo\t1\t2", "Bo\t1\tCy\t4"]
    found = read_pairs(written(root, *lines), root)
    assert pairs_in(found) == [
        ("Ann_Lee_0001.jpg", "Ann_Lee_0002.jpg", True, 0),
        ("Ann_Lee_0001.jpg", "Bo_0003.png", False, 0),
        ("Bo_0001.png", "Bo_0002.png", True, 1),
        ("Bo_0001.png", "Cy_0004.jpg", False, 1),
    ]
    assert len(found.files) == len(set(found.files)) == 6  # each image once


def test_view_1_of_lfw_has_a_tenth_of_each_kind_in_a_fold(root: Path) -> None:
    same = [f"{name} {i} {j}" for name in PEOPLE for i in range(1, 5) for j in range(i + 1, 5)][:10]
    different = [f"Ann_Lee {i} {name} {j}" for name in ("Bo", "Cy") for i in range(1, 5) for j in range(1, 5)]
    found = read_pairs(written(root, "10", *same, *different[:10]), root)
    assert found.fold.tolist() == [*range(10), *range(10)]
    assert found.same.tolist() == [True] * 10 + [False] * 10


def cplfw(pairs: int) -> list[str]:
    """Pairs whose kinds alternate, in CPLFW's format; fold numbers as labels."""
    lines = []
    for n in range(pairs):
        i, j = n % 4 + 1, (n + 1 + n // 4 % 3) % 4 + 1
        other = "Ann_Lee" if n % 2 == 0 else "Cy"
        label = n + 1 if n % 2 == 0 else 0
        lines += [f"Ann_Lee/Ann_Lee_{i:04d}.jpg {label}", f"{other}/{other}_{j:04d}.jpg {label}"]
    return lines


def test_cplfw_has_ten_consecutive_parts(root: Path) -> None:
    found = read_pairs(written(root, *cplfw(20)), root)
    assert found.fold.tolist() == [n // 2 for n in range(20)]
    assert found.same.tolist() == [True, False] * 10
    assert np.bincount(read_pairs(written(root, *cplfw(23)), root).fold).tolist() == [
        3,
        2,
        2,
        3,
        2,
        2,
        3,
        2,
        2,
        2,
    ]


def test_names_may_have_spaces(root: Path) -> None:
    (root / "Bo").rename(root / "B o")
    for file in (root / "B o").iterdir():
        file.rename(file.with_name(file.name.replace("Bo", "B o")))
    found = read_pairs(written(root, "2\t1", "B o\t1\t2", "Cy\t1\tB o\t3", "Cy\t1\t2", "B o\t1\tCy\t4"), root)
    assert pairs_in(found)[1] == ("Cy_0001.jpg", "B o_0003.png", False, 0)
    lines = [line.replace("Cy/Cy_0001.jpg", "B o/B o_0001.png") for line in cplfw(20)]
    assert root / "B o" / "B o_0001.png" in read_pairs(written(root, *lines), root).files


def test_the_fingerprint_is_of_the_pairs_not_of_the_place(root: Path, tmp_path: Path) -> None:
    one = read_pairs(written(root, *cplfw(20)), root).fingerprint()
    (tmp_path / "list").write_text("\n".join(cplfw(20)))
    assert read_pairs(tmp_path / "list", root).fingerprint() == one
    assert read_pairs(written(root, *cplfw(22)), root).fingerprint() != one


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([""], "has no pair of same people"),
        (["2 1", "Bo 1 2", "Bo 1 Cy 1", "Cy 1 2"], "promises 4 pairs in its first line, '2 1', and has 3"),
        (
            ["2 1", "Bo 1 2", "Bo 1 2", "Cy 1 2", "Bo 1 Cy 1"],
            "line 3: expected '<name> <number> <name> <number>'",
        ),
        (
            ["2 1", "Bo 1 Cy 2", "Bo 1 Cy 1", "Cy 1 2", "Bo 1 Cy 1"],
            "line 2: expected '<name> <number> <number>'",
        ),
        (["2 1", "Bo 1 2", "Bo 1 Bo 3", "Cy 1 2", "Bo 1 Cy 1"], "line 3: pairs Bo with Bo as different"),
        (["2 1", "Bo 1 1", "Bo 1 Cy 3", "Cy 1 2", "Bo 1 Cy 1"], "line 2: pairs Bo/Bo_0001 with itself"),
        (
            ["2 1", "Bo 1 2", "Bo 1 Cy 9", "Cy 1 2", "Bo 7 Cy 1"],
            "line 3: there is no {root}/Cy/Cy_0009.jpg, nor with",
        ),
        (["2 1", "Bo 1 2", "Bo 1 Cy 9", "Cy 1 2", "Bo 7 Cy 1"], "(nor 1 more images)"),
        (["1 2", "Bo 1 2", "Bo 2 3", "Bo 1 Cy 1", "Bo 1 Cy 2"], "has 4 pairs in 1 folds"),
        (["3", *["Bo 1 2"] * 3, *["Bo 1 Cy 1"] * 3], "has 6 pairs in 3 folds"),
        (cplfw(8), "has 8 pairs in 8 folds"),
        ([*cplfw(20), "Cy/Cy_0001.jpg 1"], "line 41: has no partner"),
        ([*cplfw(20), "Cy/Cy_0001.jpg", "Cy/Cy_0002.jpg 1"], "line 41: expected '<file> <label>'"),
        (
            ["Cy/Cy_0001.jpg 1", "Cy/Cy_0002.jpg 0", *cplfw(20)],
            "line 1: the two lines of this pair have the labels 1",
        ),
        ([*cplfw(20), f"{ANN}2.jpg 0", f"{ANN}1.jpg 0"], "line 41: says the opposite of line 1 of"),
        ([line for n, line in enumerate(cplfw(40)) if n % 4 < 2], "has no pair of different people"),
        ([line for n, line in enumerate(cplfw(40)) if n % 4 > 1], "has no pair of same people"),
        (
            [*cplfw(20), "Cy/none.jpg 1", "Cy/Cy_0002.jpg 1"],
            "line 41: there is no {root}/Cy/none.jpg; give the folder",
        ),
    ],
)
def test_a_wrong_list_is_refused(root: Path, lines: list[str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said.format(root=root))) as refused:
        read_pairs(written(root, *lines), root)
    assert "pairs.txt" in str(refused.value)


def test_no_list_and_no_folder(root: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.pairs=.*/nothing is no file"):
        read_pairs(root / "nothing", root)
    with pytest.raises(UserError, match=r"dataset\.root=.*/nothing is no folder"):
        read_pairs(written(root, *cplfw(20)), root / "nothing")
    (root / "image.txt").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=r"image\.txt, line 1: expected"):
        read_pairs(root / "image.txt", root)
