"""Caltech-101 and Omniglot come over HTTP from a server on this machine, once for all processes."""

import hashlib
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_benchmarks import write_image

from dml import prepare
from dml.data.acquire import Source
from dml.data.datasets import caltech101, omniglot
from dml.errors import UserError


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and notes what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Site:
    """A folder and the address it is served at."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.asked = folder, list[str]()
        handler = type("Noting", (Handler,), {"asked": self.asked})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "site")
    yield site
    site.server.shutdown()
    site.server.server_close()


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
    archive = Path(shutil.make_archive(str(site.folder / "caltech-101"), "zip", tmp_path / "pack"))
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    first, *others = caltech101.SOURCES
    there = first._replace(md5=md5, urls=(f"{site.url}/caltech-101.zip",))
    monkeypatch.setattr(caltech101, "SOURCES", (there, *others))
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
        archive = Path(
            shutil.make_archive(str(site.folder / "python" / name), "zip", tmp_path / "pack", name)
        )
        md5 = hashlib.md5(archive.read_bytes()).hexdigest()
        sources.append(Source(archive.name, name, md5, (f"{site.url}/python/{archive.name}",)))
        monkeypatch.setitem(omniglot.ARCHIVES, name, omniglot.Archive(md5, count))
    monkeypatch.setattr(omniglot, "SOURCES", sources)
    return site


def test_omniglot_is_fetched_once(omniglot_site: Site, tmp_path: Path) -> None:
    splits = together(omniglot.load, tmp_path / "root")
    assert [len(split.train) for split in splits] == [40] * 3
    assert omniglot_site.asked == ["/python/images_background.zip", "/python/images_evaluation.zip"]


def test_the_small_set_is_prepared(
    omniglot_site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["omniglot_small", "--root", str(tmp_path / "root"), "--duplicates"]
    assert prepare.main(command) == prepare.main(command) == 0
    assert omniglot_site.asked == ["/python/images_background_small1.zip"]
    printed = capsys.readouterr().out
    assert "60 training images of 3 classes, 20 test images of 1 other classes" in printed
    assert "Identical images under different classes: 0" in printed


def test_another_archive_is_refused(
    omniglot_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(omniglot, "SOURCES", [source._replace(md5="0" * 32) for source in omniglot.SOURCES])
    with pytest.raises(UserError, match=r"is not the file expected .*; or get it by hand"):
        omniglot.load(tmp_path / "root", download=True)
    assert not list((tmp_path / "root").glob("images*"))


def test_without_the_server_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "http://127.0.0.1:9/caltech-101.zip"
    monkeypatch.setattr(caltech101, "SOURCES", (Source("caltech-101.zip", "caltech-101", None, (gone,)),))
    with pytest.raises(
        UserError, match=rf"Cannot fetch {gone} .*; or get caltech-101.zip by hand from"
    ) as no:
        caltech101.load(tmp_path, download=True)
    assert "\n" not in str(no.value)
