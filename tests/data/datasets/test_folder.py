import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_benchmarks import write_image, write_tree
from omegaconf import OmegaConf

from dml.data.checks import check_dataset
from dml.data.datamodule import EmbeddingDataModule
from dml.data.datasets import folder
from dml.data.split import Samples, Split, fingerprint
from dml.errors import Note, UserError


def classes_of(split: Split, samples: Samples) -> list[str]:
    return sorted({split.classes[label] for label in samples.labels})


def test_the_last_classes_by_name_test(tmp_path: Path) -> None:
    split = folder.load(write_tree(tmp_path, {"d": 2, "b": 3, "a": 2, "c": 2}))
    assert (classes_of(split, split.train), classes_of(split, split.query)) == (["a", "b"], ["c", "d"])
    assert split.train.names == ["a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/2.png"]
    assert split.gallery is None


@pytest.mark.parametrize(("share", "test"), [(0.01, "d"), (0.25, "d"), (0.75, "bcd"), (0.99, "bcd")])
def test_the_share(tmp_path: Path, share: float, test: str) -> None:
    split = folder.load(write_tree(tmp_path, dict.fromkeys("abcd", 2)), test_share=share)
    assert classes_of(split, split.query) == list(test)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 50.0])
def test_a_share_that_is_none(tmp_path: Path, share: float) -> None:
    with pytest.raises(UserError, match=rf"dataset.test_share={share} must be above 0 and below 1"):
        folder.load(write_tree(tmp_path, dict.fromkeys("ab", 2)), test_share=share)


def test_chosen_test_classes(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2, "7": 2})
    # As the command line gives them: numbers that are names.
    split = folder.load(tmp_path, test_classes=OmegaConf.create(["a", "7"]))
    assert classes_of(split, split.query) == ["7", "a"]
    with pytest.raises(UserError, match=r"dataset.test_classes has 'x', which is no folder"):
        folder.load(tmp_path, test_classes=["a", "x"])
    with pytest.raises(UserError, match=r"dataset.test_classes=\[\] names no class"):
        folder.load(tmp_path, test_classes=[])
    with pytest.raises(
        UserError, match=r"has '1000', which .*; a name that looks like a number needs quotes"
    ):
        folder.load(tmp_path, test_classes=["a", 1000])
    with pytest.raises(UserError, match=r"no training images: .*test_classes does not name every class"):
        check_dataset(folder.load(tmp_path, test_classes=["a", "b", "7"]))


def test_a_share_beside_chosen_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not both"):
        folder.load(write_tree(tmp_path, dict.fromkeys("abc", 2)), test_share=0.5, test_classes=["a"])


def test_train_and_test_folders(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train/a": 2, "train/b": 2, "test/c": 3})
    split = folder.load(tmp_path)
    assert (len(split.train), len(split.query), split.gallery) == (4, 3, None)
    assert split.query.names[0] == "test/c/0.png"
    with pytest.raises(UserError, match=r"leave out dataset.test_classes"):
        folder.load(tmp_path, test_classes=["c"])
    with pytest.raises(UserError, match=r"leave out dataset.test_share"):
        folder.load(tmp_path, test_share=0.5)


def test_query_and_gallery_folders(tmp_path: Path) -> None:
    split = folder.load(write_tree(tmp_path, {"train/a": 2, "query/b": 1, "gallery/b": 3}))
    assert split.gallery is not None
    assert (len(split.query), len(split.gallery)) == (1, 3)


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    split = folder.load(write_tree(tmp_path, {"bus": 2, "train": 2}))
    assert split.classes == ["bus", "train"]


@pytest.mark.parametrize("others", [["test", "masks"], ["query"], ["test", "query", "gallery"]])
def test_folders_that_make_no_split(tmp_path: Path, others: list[str]) -> None:
    for number, name in enumerate(["train", *others]):
        write_tree(tmp_path / name, {f"class {number}": 2})
    with pytest.raises(UserError, match=r"beside train/ there must be exactly test/, or exactly"):
        folder.load(tmp_path)


@pytest.mark.parametrize("val", ["val", "Valid", "validation", "dev"])
@pytest.mark.parametrize("others", [["test"], ["query", "gallery"], []])
def test_a_validation_folder_is_not_used(tmp_path: Path, val: str, others: list[str]) -> None:
    write_tree(tmp_path, {"train/a": 2, f"{val}/b": 2, **{f"{other}/c": 2 for other in others}})
    if others:
        with pytest.warns(Note, match=f"{val} is not used: protocol=paper validates on the test classes"):
            assert folder.load(tmp_path).classes == ["a", "c"]
    else:
        with pytest.raises(
            UserError, match=f"holds train/ and {val}/ but no test/: call the folder that tests"
        ):
            folder.load(tmp_path)


LAYOUTS = {  # folders with images, whether nested, training and test classes and images, or what is said
    "flat": ({"a": 1, "b": 1}, False, ("a", 1, "b", 1)),
    "nested": ({"a/x/y": 1, "a": 2, "b/z": 3}, True, ("a", 3, "b", 3)),
    "nested in sides": ({"train/a/x": 1, "train/b": 1, "test/c/y/z": 2}, True, ("ab", 2, "c", 2)),
    "flat as nested": ({"a": 1, "b": 1}, True, ("a", 1, "b", 1)),
    "a class called train": ({"train/x": 1, "bus/y": 1}, True, ("b", 1, "t", 1)),
    "nested, not said": ({"a/x": 1, "b": 1}, False, "holds a folder, 'x', .* dataset.nested=true takes"),
    "nested and empty": ({"a/.x": 1, "b": 1}, True, "The class folder .*/a holds no images"),
    "nested, unsplit": ({"a/x": 1, "a/y": 1}, True, "has 1 class folders, but a split needs two"),
    "capitals": ({"Train/a": 1, "TEST/b": 2}, False, ("a", 1, "b", 2)),
    "capitals, nested": ({"TRAIN/a/x": 1, "Test/b/y": 2}, True, ("a", 1, "b", 2)),
    "capital classes": ({"Train": 1, "bus": 1}, False, ("T", 1, "b", 1)),
    "both spellings": (
        {"Train/a": 1, "train/c": 1, "test/b": 2},
        False,
        "holds both .*rain/ and .*rain/: put",
    ),
    "both tests": ({"train/a": 1, "Test/b": 2, "test/b": 1}, False, "holds both .est/ and .est/: put"),
}


@pytest.mark.parametrize(("tree", "nested", "expected"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(tmp_path: Path, tree: dict[str, int], nested: bool, expected: tuple[Any, ...] | str) -> None:
    write_tree(tmp_path, tree)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            folder.load(tmp_path, nested=nested)
        return
    split = folder.load(tmp_path, nested=nested)
    found = [("".join(c[0] for c in classes_of(split, s)), len(s)) for s in (split.train, split.query)]
    assert (*found[0], *found[1]) == expected
    assert all(Path(image).is_file() for image in [*split.train.images, *split.query.images])


def test_capitals_make_no_other_split(tmp_path: Path) -> None:
    fingerprints = {
        fingerprint(folder.load(write_tree(tmp_path / train, {f"{train}/a": 2, f"{test}/b": 2})))
        for train, test in (("train", "test"), ("Train", "TEST"))
    }
    assert len(fingerprints) == 1


@pytest.mark.parametrize("target", [".", "a", "a/x", "b"])
def test_links_in_a_nested_class_end(tmp_path: Path, target: str) -> None:
    write_tree(tmp_path, {"a/x": 2, "b": 2})
    (tmp_path / "a" / "x" / "link").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=r"listed already: remove the link|are the same file, .*: list every"):
        check_dataset(folder.load(tmp_path, nested=True))


@pytest.mark.parametrize("tests", [["test"], ["Query", "gallery"], ["test", "val"]])
def test_without_training_images_there_is_enough_to_evaluate(tmp_path: Path, tests: list[str]) -> None:
    write_tree(tmp_path, {f"{name}/b": 2 for name in tests})
    split = folder.load(tmp_path)
    assert (len(split.train), len(split.query)) == (0, 2)
    check_dataset(split, trains=False)
    with pytest.raises(UserError, match="The dataset has no training images"):
        check_dataset(split)


def test_an_empty_class(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"The class folder .*/c holds no images .*: remove or fill it"):
        folder.load(tmp_path)


def test_a_broken_link(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"a/2.png is missing or a broken link: unpack or download it again"):
        check_dataset(folder.load(tmp_path))


def test_links_that_hold_are_followed(tmp_path: Path) -> None:
    elsewhere = write_tree(tmp_path / "elsewhere", {"a": 2})
    write_tree(tmp_path / "root", {"b": 2})
    (tmp_path / "root" / "a").symlink_to(elsewhere / "a")
    assert len(folder.load(tmp_path / "root").train) == 2


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2})
    iterdir = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"/b cannot be used \(permission denied\): change its permissions"):
        EmbeddingDataModule(partial(folder.load, tmp_path)).setup()


@pytest.mark.parametrize("sizes", [{}, {"only": 4}])
def test_too_few_classes(tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(
        UserError, match=rf"has {len(sizes)} class folders, but a split needs two: the layout"
    ):
        folder.load(write_tree(tmp_path, sizes))


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"dataset.root=.*nowhere is not a folder: give one with <class>/<image>"
    ):
        folder.load(tmp_path / "nowhere")


def test_odd_names_work(tmp_path: Path) -> None:
    odd = ["b c", "k=v", "x,y", "naïve Ω", "[list]", "{dict}", "it's", 'quo"te']
    split = folder.load(write_tree(tmp_path / "my = images, 2", dict.fromkeys(odd, 2)))
    assert sorted(split.classes) == sorted(odd)
    assert all(Path(image).is_file() for image in [*split.train.images, *split.query.images])


def test_names_that_are_not_utf8_work(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    split = folder.load(write_tree(tmp_path, {"a": 2, name: 2}))
    assert name in split.classes


def test_other_files_are_passed_over_with_a_word(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "Thumbs.db").touch()
    write_image(tmp_path / "stray.png")
    with pytest.warns(UserWarning, match=r"skipped: '.*Thumbs.db' \(and 1 more\)"):
        assert len(folder.load(tmp_path).train) == 2


def test_hidden_files_readmes_and_upper_case(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2, "c": 2, "d": 2})
    for name in (".DS_Store", "a/.DS_Store", "README.md"):
        (tmp_path / name).touch()
    (tmp_path / ".unpacking-x" / "half").mkdir(parents=True)
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "0.PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert folder.load(tmp_path).train.names[:2] == ["a/0.PNG", "a/1.png"]
