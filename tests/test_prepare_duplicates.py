import shutil
from pathlib import Path

import numpy as np
from fake_benchmarks import write_tree

from dml.data.datasets import folder
from dml.data.split import Samples, Split
from dml.prepare import conflicting_duplicates


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


def test_images_in_memory_have_no_files() -> None:
    samples = Samples(np.zeros((2, 8, 8), dtype=np.uint8), np.arange(2), ["0", "1"])
    assert conflicting_duplicates(Split(["a", "b"], samples, samples)) == []
