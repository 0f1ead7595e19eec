"""Caltech-101 and Omniglot come over HTTP from a server on this machine, once for all processes."""

import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_benchmarks import Site, serving, write_image
from PIL import Image

from dml import prepare
from dml.data.datasets import caltech101, omniglot
from dml.data.download import Source
from dml.errors import UserError


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "site") as site:
        yield site


def come_from(monkeypatch: pytest.MonkeyPatch, dataset: Any, *sources: Source) -> None:
    monkeypatch.setattr(dataset, "ORIGIN", dataset.ORIGIN._replace(sources=sources))


def together(load: Any, root: Path, processes: int = 3) -> list[Any]:
    """What several calls at the same time return; a lock of files holds between threads as between processes."""
    splits: list[Any] = []
    threads = [
        threading.Thread(target=lambda: splits.append(load(root, download=True))) for _ in range(processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return splits


@pytest.fixture
def caltech_site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Two categories as the official archive has them: a zip that holds a tar."""
    monkeypatch.setattr(caltech101, "CATEGORIES", 2)
    monkeypatch.setattr(caltech101, "TRAIN_CLASSES", 1)
    folder = tmp_path / "pack" / "caltech-101"
    for name in ("ant", "crab", "BACKGROUND_Google"):
        for i in (1, 2):
            write_image(tmp_path / "101_ObjectCategories" / name / f"image_{i:04}.jpg")
    folder.mkdir(parents=True)
    with tarfile.open(folder / "101_ObjectCategories.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "101_ObjectCategories", "101_ObjectCategories")
    shutil.make_archive(str(site.folder / "caltech-101"), "zip", tmp_path / "pack")
    _, *others = caltech101.ORIGIN.sources
    come_from(monkeypatch, caltech101, site.source("caltech-101.zip", "caltech-101"), *others)
    return site


def test_caltech_is_fetched_once(caltech_site: Site, tmp_path: Path) -> None:
    splits = together(caltech101.load, tmp_path / "root")
    assert [split.classes for split in splits] == [["ant", "crab"]] * 3
    assert [len(split.train) for split in splits] == [2] * 3
    assert caltech_site.asked == ["/caltech-101.zip"]


def test_caltechs_archive_got_by_hand_is_adopted(caltech_site: Site, tmp_path: Path) -> None:
    split = prepare.prepare("caltech101", tmp_path / "root", [caltech_site.folder / "caltech-101.zip"])
    assert len(split.query) == 2
    assert caltech_site.asked == []


@pytest.fixture
def omniglot_site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Archives of two characters each, and of four in the small set."""
    counts = {"images_background": 2, "images_evaluation": 2, "images_background_small1": 4}
    sources = []
    for name, count in counts.items():
        for c in range(count):
            for drawer in range(20):
                write_image(tmp_path / "pack" / name / f"alphabet {c}" / "character01" / f"{drawer:02}.png")
        shutil.make_archive(str(site.folder / name), "zip", tmp_path / "pack", name)
        sources.append(site.source(f"{name}.zip", name))
        monkeypatch.setitem(omniglot.ARCHIVES, name, (count, ""))
    monkeypatch.setattr(omniglot, "PIXELS", {})
    come_from(monkeypatch, omniglot, *sources)
    return site


def test_omniglot_is_fetched_once(omniglot_site: Site, tmp_path: Path) -> None:
    splits = together(omniglot.load, tmp_path / "root")
    assert [len(split.train) for split in splits] == [40] * 3
    assert omniglot_site.asked == ["/images_background.zip", "/images_evaluation.zip"]


def test_the_small_set_is_prepared(
    omniglot_site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["omniglot_small", "--root", str(tmp_path / "root"), "--duplicates"]
    prepare.main(command)
    prepare.main(command)
    assert omniglot_site.asked == ["/images_background_small1.zip"]
    printed = capsys.readouterr().out
    assert "60 training images of 3 classes, 20 test images of 1 other classes" in printed
    assert "Identical images under different classes: 0" in printed


def test_another_archive_is_refused(
    omniglot_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = omniglot.ORIGIN.sources
    come_from(monkeypatch, omniglot, *(source._replace(md5="0" * 32) for source in sources))
    with pytest.raises(UserError, match=r"is not the file expected .*; or get it by hand"):
        omniglot.load(tmp_path / "root", download=True)
    assert not list((tmp_path / "root").glob("images*"))


def test_an_archive_named_by_hand_is_checked_too(omniglot_site: Site, tmp_path: Path) -> None:
    """As many drawings of as many characters, but blank."""
    archive = omniglot_site.folder / "images_background_small1.zip"
    for drawing in (tmp_path / "pack").glob("images_background_small1/*/*/1*.png"):
        Image.new("1", (105, 105), 1).save(drawing)
    shutil.make_archive(str(archive.with_suffix("")), "zip", tmp_path / "pack", "images_background_small1")
    with pytest.raises(UserError, match=r"small1.zip is not the file expected .*: get it again; if a mirror"):
        prepare.prepare("omniglot_small", tmp_path / "root", [archive])
    assert not list(tmp_path.glob("root/images*"))
    renamed = archive.rename(tmp_path / "packed_anew.zip")
    assert len(prepare.prepare("omniglot_small", tmp_path / "root", [renamed]).query) == 20


def test_the_other_small_set_is_chosen_as_for_training(
    omniglot_site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tmp_path / "root")]
    with pytest.raises(SystemExit, match=r"dataset.subset=small3 must be small1 or small2"):
        prepare.main(["omniglot_small", "dataset.subset=small3", *root])
    with pytest.raises(SystemExit, match=r"dataset.subst=small2 does not fit dataset=omniglot_small: "):
        prepare.main(["omniglot_small", "dataset.subst=small2", *root])
    prepare.main(["omniglot_small", "dataset.subset=small1", *root])
    assert "dataset=omniglot_small dataset.subset=small1" in capsys.readouterr().out


def test_the_published_digests_are_what_training_looks_for() -> None:
    digests = {source.file: source.md5 for source in omniglot.ORIGIN.sources}
    assert digests["images_background_small1.zip"] == "e704a628b5459e08445c13499850abc4"
    assert digests["images_background_small2.zip"] == "b75a71a51d3b13f821f212756fe481fd"
    assert omniglot.ARCHIVES["images_background_small2"][0] == 156
