import shutil
from pathlib import Path

from fake_benchmarks import write_tree

from dml.data import folder
from dml.data.duplicates import conflicting_duplicates


def test_copies_under_other_classes_are_found(tmp_path: Path) -> None:
    write_tree(tmp_path, dict.fromkeys("abcd", 3))
    shutil.copyfile(tmp_path / "a" / "0.png", tmp_path / "d" / "copy.png")
    shutil.copyfile(tmp_path / "b" / "1.png", tmp_path / "a" / "copy.png")
    shutil.copyfile(tmp_path / "b" / "1.png", tmp_path / "c" / "copy.png")
    groups = conflicting_duplicates(folder.load(tmp_path))
    assert [[(image.name, image.label) for image in group] for group in groups] == [
        [("a/0.png", "a"), ("d/copy.png", "d")],
        [("a/copy.png", "a"), ("b/1.png", "b"), ("c/copy.png", "c")],
    ]


def test_copies_within_a_class_are_no_conflict(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 3, "b": 3})
    shutil.copyfile(tmp_path / "a" / "0.png", tmp_path / "a" / "copy.png")
    assert conflicting_duplicates(folder.load(tmp_path)) == []
