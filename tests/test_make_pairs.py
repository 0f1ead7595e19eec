"""The script that writes a list of pairs."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest
from fake_benchmarks import write_tree

from dml.data.pairs import read_pairs

FILE = Path(__file__).resolve().parents[1] / "scripts" / "make_pairs.py"
spec = importlib.util.spec_from_file_location("make_pairs", FILE)
assert spec is not None
assert spec.loader is not None
make_pairs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_pairs)


def test_folds_share_no_person_and_are_balanced(tmp_path: Path) -> None:
    write_tree(tmp_path / "faces", {f"s{i}": 3 + i % 2 for i in range(50)})
    lists = []
    for seed in (0, 0, 1):
        assert (
            make_pairs.main([str(tmp_path / "faces"), str(tmp_path / "pairs.txt"), "--seed", str(seed)])
            is None
        )
        lists.append((tmp_path / "pairs.txt").read_text())
    assert lists[0] == lists[1] != lists[2]
    found = read_pairs(tmp_path / "pairs.txt", tmp_path / "faces")
    people = [Path(name).parent.name for name in found.names]
    folds: dict[str, set[int]] = {}
    for i, j, same, fold in zip(found.first, found.second, found.same, found.fold, strict=True):
        assert (people[i] == people[j]) == same
        for image in (i, j):
            folds.setdefault(people[image], set()).add(int(fold))
    assert set(folds) == set(sorted(f"s{i}" for i in range(50))[25:])
    assert {len(of) for of in folds.values()} == {1}
    assert len(set(Counter(zip(found.fold.tolist(), found.same.tolist(), strict=True)).values())) == 1


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({f"s{i}": 2 for i in range(10)}, "10 folds need 20 test classes, two each; there are 5"),
        ({f"s{i}": 1 for i in range(40)}, "A fold has no class with two images"),
        ({}, "has 0 class folders"),
    ],
)
def test_too_few(tmp_path: Path, sizes: dict[str, int], said: str) -> None:
    (tmp_path / "faces").mkdir()
    write_tree(tmp_path / "faces", sizes)
    assert said in str(make_pairs.main([str(tmp_path / "faces"), str(tmp_path / "pairs.txt")]))
    assert not (tmp_path / "pairs.txt").exists()
