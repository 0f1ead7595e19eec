"""What is refused of any split, and what is only said."""

import os
import shutil
import unicodedata
import warnings
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from fake_benchmarks import TINY, TINY_INSHOP, write_cub, write_image, write_inshop, write_sop, write_tree

from dml.data.checks import BadFiles, check_files, check_split, copies, warn_of_copies
from dml.data.datamodule import EmbeddingDataModule
from dml.data.datasets import cub, digits, folder, inshop, manifest, sop
from dml.data.sampler import PKBatchSampler
from dml.data.split import Samples, Split
from dml.errors import Note, UserError
from dml.runs.failures import machine_failures


def table(root: Path, *lines: str) -> Split:
    """A manifest of the lines `path,label,split`, and an image at each path."""
    for line in lines:
        write_image(root / line.split(",")[0])
    (root / "manifest.csv").write_text("\n".join(["path,label,split", *lines]))
    return manifest.load(root)


def in_memory(train: str, query: str, gallery: str | None = None, names: str = "") -> Split:
    """A split of 1×1 images, a letter of `train`, `query` and `gallery` an image of the class of that name."""
    classes = sorted({*train, *query, *(gallery or "")})
    number = iter(range(100))

    def samples(labels: str) -> Samples:
        numbers = [next(number) for _ in labels]
        pixels = np.array(numbers, np.uint8).reshape(-1, 1, 1)
        return Samples(pixels, np.array([classes.index(c) for c in labels]), [f"image {n}" for n in numbers])

    return Split(classes, samples(train), samples(query), samples(gallery) if gallery is not None else None)


def test_what_is_fine_says_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_split(in_memory("aabb", "ccdd"))
        check_split(in_memory("aabb", "cd", "ccdd"))
        check_split(digits.load())
        warn_of_copies(digits.load())


def test_sides_without_images() -> None:
    for split, role in [
        (in_memory("", "ab"), "training"),
        (in_memory("ab", ""), "test"),
        (in_memory("ab", "cc", ""), "gallery"),
    ]:
        with pytest.raises(UserError, match=f"has no {role} images"):
            check_split(split)


def test_a_class_on_both_sides(tmp_path: Path) -> None:
    top = write_sop(tmp_path / "sop") / "Stanford_Online_Products"
    test = top / "Ebay_test.txt"
    # Both images of product 4 become images of product 2, which trains.
    test.write_text(test.read_text().replace(" 4 2 ", " 2 2 "))
    with pytest.warns(Note, match="'product 2'"):
        split = sop.load(tmp_path / "sop", counts=TINY)
    with pytest.raises(UserError, match=r"class 'product 2' in training and in test"):
        check_split(split)
    write_tree(tmp_path, {"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2})
    shutil.rmtree(tmp_path / "sop")
    with pytest.raises(UserError, match=r"class 'a' \(and 1 more\) in training and in test.* on one side"):
        check_split(folder.load(tmp_path))
    with pytest.raises(UserError, match="class 'b' in training and in test"):
        check_split(in_memory("ab", "cc", "bc"))


@pytest.mark.parametrize(
    "twin",
    ["a ", " a", "\u00a0a", "a\u200b", "\ufeffa"],
)
def test_class_names_that_look_the_same(tmp_path: Path, twin: str) -> None:
    lines = ["1.png,a,train", "2.png,b,train", f"3.png,{twin},test", f"4.png,{twin},test"]
    with pytest.raises(UserError, match=r"look the same .* give them one name") as refused:
        check_split(table(tmp_path, *lines))
    assert ascii(twin) in str(refused.value)


def test_composed_and_decomposed_letters_are_one_name(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write_tree(tmp_path, {f"train/{composed}": 2, f"test/{decomposed}": 2, "test/b": 2})
    with pytest.raises(UserError, match=r"The classes 'caf\\xe9' and 'cafe\\u0301' look the same"):
        check_split(folder.load(tmp_path))


def test_names_that_differ_in_case_are_named() -> None:
    with pytest.warns(Note, match=r"'A' and 'a' differ only in upper and lower case"):
        check_split(in_memory("Abb", "aacc"))


def test_an_image_listed_twice_in_a_benchmark(tmp_path: Path) -> None:
    """The counts still fit: another image was left out for it."""
    images = write_cub(tmp_path) / "CUB_200_2011" / "images.txt"
    lines = images.read_text().splitlines()
    lines[1] = f"2 {lines[0].split()[1]}"
    images.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"Bird_1_0000.jpg' is listed twice, in training and in training"):
        check_split(cub.load(tmp_path, counts=TINY))
    test = write_sop(tmp_path) / "Stanford_Online_Products" / "Ebay_test.txt"
    lines = test.read_text().splitlines()
    test.write_text("\n".join([*lines[:2], f"7 {lines[1].split(' ', 1)[1]}", *lines[3:]]))
    with pytest.raises(UserError, match=r"111002_5.JPG' is listed twice, in test and in test"):
        check_split(sop.load(tmp_path, counts=TINY))


@pytest.mark.parametrize(
    "spelling", ["./d/3.png", "d//3.png", "d/../d/3.png", "{root}/d/3.png", "link.png", "e/3.png"]
)
def test_a_file_listed_twice_under_another_spelling(tmp_path: Path, spelling: str) -> None:
    write_image(tmp_path / "d" / "3.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "d" / "3.png")
    (tmp_path / "e").symlink_to(tmp_path / "d")
    twice = ["d/3.png,b,query", f"{spelling.format(root=tmp_path)},b,gallery"]
    with pytest.raises(UserError, match=rf"are the same file, {tmp_path}/d/3.png: list every image once"):
        check_split(table(tmp_path, "1.png,a,train", "2.png,a,train", *twice))


def test_the_same_images_as_queries_and_gallery() -> None:
    split = in_memory("aa", "bbcc")
    with pytest.raises(UserError, match="'image 2' is listed twice, in test and in gallery"):
        check_split(replace(split, gallery=split.query))


def test_queries_with_nothing_to_find() -> None:
    with pytest.warns(Note, match=r"test classes without a second image to find: 'c'; ") as caught:
        check_split(in_memory("aabb", "cdd"))
    assert len(caught) == 1
    with pytest.warns(Note, match=r"one class to search, 'c': whatever is found is right"):
        check_split(in_memory("aabb", "cc"))
    for split in (in_memory("aa", "bc"), in_memory("aa", "b", "cc")):
        with pytest.raises(UserError, match=r"no test class with a second image to find, beginning with 'b'"):
            check_split(split)


def test_copies_are_found_and_named_in_one_note(tmp_path: Path) -> None:
    write_tree(tmp_path, dict.fromkeys("abcd", 3))
    for copy, original in {"a/x": "a/0", "c/x": "c/0", "c/y": "c/0", "d/x": "b/1"}.items():
        shutil.copyfile(tmp_path / f"{original}.png", tmp_path / f"{copy}.png")
    # As large as another and with the same end, but not the same.
    changed = bytearray((tmp_path / "a" / "1.png").read_bytes())
    changed[40] ^= 1
    (tmp_path / "a" / "y.png").write_bytes(changed)
    split = folder.load(tmp_path)
    groups = sorted(sorted(image.name for image in group) for group in copies(split))
    assert groups == [["a/0.png", "a/x.png"], ["b/1.png", "d/x.png"], ["c/0.png", "c/x.png", "c/y.png"]]
    with pytest.warns(Note) as caught:
        warn_of_copies(split)
    (note,) = [str(warning.message) for warning in caught]
    assert "7 images are byte for byte the same as another, such as 'c/0.png' and 'c/x.png'" in note
    assert "in 1 such groups a query finds its own copy" in note
    assert "1 are in both training and test" in note


def test_copies_in_memory_are_found() -> None:
    split = in_memory("aabb", "ccdd")
    assert isinstance(split.query.images, np.ndarray)
    assert copies(split) == []
    split.query.images[3] = split.query.images[0]
    assert [[image.name for image in group] for group in copies(split)] == [["image 4", "image 7"]]


def test_training_says_it_before_it_begins(tmp_path: Path) -> None:
    """The same drawings in query and gallery would give Recall@1 1.000 without a word."""
    write_tree(tmp_path, {"train/a": 2, "train/b": 2, "query/c": 2, "query/d": 2})
    shutil.copytree(tmp_path / "query", tmp_path / "gallery")
    data = EmbeddingDataModule(folder.load(tmp_path), PKBatchSampler)
    with pytest.warns(Note, match=r"8 images are byte for byte the same .* in 4 such groups a query finds"):
        data.setup()


def test_an_own_split_goes_through_the_same_checks() -> None:
    split = in_memory("aabb", "ccdd")
    data = EmbeddingDataModule(replace(split, query=split.train), PKBatchSampler)
    with pytest.raises(UserError, match="in training and in test"):
        data.setup()


def test_cubs_labels_are_held_against_its_folders(tmp_path: Path) -> None:
    labels = write_cub(tmp_path) / "CUB_200_2011" / "image_class_labels.txt"
    lines = labels.read_text().splitlines()
    lines[0], lines[4] = "1 2", "5 1"
    labels.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"puts image 1 in class 002.Bird_2, but it lies in 001.Bird_1/"):
        cub.load(tmp_path, counts=TINY)


def test_inshops_items_are_held_against_its_folders(tmp_path: Path) -> None:
    partition = write_inshop(tmp_path) / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace(" id_00000000 train", " id_00000001 train", 1))
    with pytest.raises(
        UserError, match=r"img/WOMEN/Dresses/id_00000000/00_1_front.jpg an image of id_00000001"
    ):
        inshop.load(tmp_path, counts=TINY_INSHOP)


def test_sops_products_are_held_against_its_file_names(tmp_path: Path) -> None:
    train = write_sop(tmp_path) / "Stanford_Online_Products" / "Ebay_train.txt"
    first, second = "1 1 1 bicycle_final/111000_0.JPG", "4 2 2 sofa_final/111001_3.JPG"
    text = train.read_text()
    assert first in text
    assert second in text
    swapped = text.replace(first, first.replace("1 1 1", "1 2 2")).replace(
        second, second.replace("4 2 2", "4 1 1")
    )
    train.write_text(swapped)
    with pytest.warns(Note, match=r"images of 'product 2' \(and 1 more\) .* more than one listing"):
        sop.load(tmp_path, counts=TINY)


def test_names_that_are_not_utf8_are_checked(tmp_path: Path) -> None:
    check_split(folder.load(write_tree(tmp_path, {"a": 2, os.fsdecode(b"caf\xe9"): 2, "z": 2})))


def test_no_memory_for_the_threads_that_read_the_files_is_one_sentence(tmp_path, monkeypatch):
    def start(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    write_image(tmp_path / "a.png")
    monkeypatch.setattr(Thread, "start", start)
    with pytest.raises(UserError, match=r"^Out of memory"), machine_failures():
        check_files([tmp_path / "a.png"])


def test_every_file_is_looked_at_however_many_there_are(tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(200)]
    for number, file in enumerate(files):
        file.write_bytes(b"") if number in (0, 63, 64, 199) else write_image(file)
    with pytest.raises(BadFiles) as caught:
        check_files(files)
    assert [problem.split()[0] for problem in caught.value.problems] == [
        str(files[n]) for n in (0, 63, 64, 199)
    ]
