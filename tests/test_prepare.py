import errno
import runpy
import shutil
import socket
import sys
from functools import partial
from pathlib import Path

import pytest
from fake_benchmarks import (
    TINY,
    TINY_INSHOP,
    serving,
    write_cars,
    write_cars_sides,
    write_cub,
    write_image,
    write_inshop,
    write_sop,
    write_tree,
)

from dml import prepare
from dml.data import download
from dml.data.datasets import cars, cub, folder, inshop, sop
from dml.data.split import Split
from dml.errors import UserError


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks in the size of the fakes."""
    sizes = {cub: TINY, sop: TINY, cars: TINY, inshop: TINY_INSHOP}
    for module, counts in sizes.items():
        monkeypatch.setattr(module, "load", partial(module.load, counts=counts))
    sources = [source._replace(md5=None) for source in cars.ORIGIN.sources]
    monkeypatch.setattr(cars, "ORIGIN", cars.ORIGIN._replace(sources=sources))


def packed(folder: Path, form: str = "gztar") -> Path:
    """An archive of what a folder holds, beside it."""
    return Path(shutil.make_archive(str(folder), form, folder))


def run(*arguments: object) -> int:
    """The command's exit status; Python itself prints the sentence that it ends with."""
    try:
        prepare.main([str(argument) for argument in arguments])
    except SystemExit as ended:
        if isinstance(ended.code, int):
            return ended.code
        print(ended.code, file=sys.stderr)
        return 1
    return 0


@pytest.mark.parametrize(
    ("name", "write", "count"),
    [
        ("cub", write_cub, 12),
        ("sop", write_sop, 12),
        ("cars", write_cars, 12),
        ("cars", write_cars_sides, 12),
    ],
)
def test_an_archive_is_adopted(tmp_path: Path, name: str, write, count: int) -> None:  # type: ignore[no-untyped-def]
    archive = packed(write(tmp_path / "archive"))
    split = prepare.prepare(name, tmp_path / "root", [archive])
    assert len(split.train) + len(split.query) == count


def test_several_archives_and_loose_files(tmp_path: Path) -> None:
    source = write_cars(tmp_path / "source")
    archive = Path(shutil.make_archive(str(tmp_path / "car_ims"), "gztar", source, "car_ims"))
    split = prepare.prepare("cars", tmp_path / "root", [archive, source / "cars_annos.mat"])
    assert len(split.query) == 7


def test_what_lies_in_the_root_is_adopted(tmp_path: Path) -> None:
    source = write_inshop(tmp_path / "source")
    shutil.make_archive(str(tmp_path / "root" / "img"), "zip", source, "img")
    shutil.copy(source / "list_eval_partition.txt", tmp_path / "root")
    split = prepare.prepare("inshop", tmp_path / "root")
    assert split.gallery is not None
    assert len(split.gallery) == 6


def test_a_loose_file_joins_the_archive_that_lies_in_the_root(tmp_path: Path) -> None:
    source = write_inshop(tmp_path / "source")
    shutil.make_archive(str(tmp_path / "root" / "img"), "zip", source, "img")
    assert prepare.prepare("inshop", tmp_path / "root", [source / "list_eval_partition.txt"]).gallery


def test_it_fetches_and_checks_and_the_second_time_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my root"
    with serving(tmp_path / "site") as site:
        packed(write_cub(tmp_path / "archive")).rename(site.folder / "CUB_200_2011.tgz")
        sources = [site.source("CUB_200_2011.tgz", "CUB_200_2011")]
        monkeypatch.setattr(cub, "ORIGIN", cub.ORIGIN._replace(sources=sources))
        assert run("cub", "--root", root) == 0
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert run("cub", "--root", root) == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    second = capsys.readouterr().out
    assert second in first
    assert "cub: 5 training images of 2 classes, 7 test images of 3 other classes." in second
    assert "(no official fingerprint is known here)" in second
    assert f"dataset=cub \"dataset.root='{root}'\"" in second


def test_no_network_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket, "gethostbyname", no_network)
    for name in ("cub", "sop"):
        assert run(name, "--root", tmp_path) == 1
        error = capsys.readouterr().err
        assert error.startswith("Error: Cannot fetch")
        assert "by hand" in error
        assert "--archive" in error
        assert error.count("\n") == 1


def test_cars_says_that_its_host_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cars", "--root", tmp_path) == 1
    error = capsys.readouterr().err
    assert "car_ims.tgz is not in" in error
    assert "issue 7545" in error
    assert error.count("\n") == 1


def test_inshop_prints_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inshop", "--root", tmp_path) == 1
    error = capsys.readouterr().err
    assert all(step in error for step in ("  1. ", "  2. ", "  3. ", "img.zip", "list_eval_partition.txt"))


def test_a_wrong_archive_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011.tgz").write_text("something else")
    with pytest.raises(UserError, match=r"CUB_200_2011.tgz is not the file expected .*; or get CUB"):
        prepare.prepare("cub", tmp_path)


def test_a_wrong_archive_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch", None)
    archive = packed(write_sop(tmp_path / "archive"))
    with pytest.raises(UserError, match=r"^archive.tar.gz was unpacked, but .* does not hold CUB_200_2011/"):
        prepare.prepare("cub", tmp_path / "root", [archive])
    with pytest.raises(UserError, match=r"--archive .*gone.tgz is not a file"):
        prepare.prepare("cub", tmp_path / "root", [tmp_path / "gone.tgz"])


def test_a_folder_given_as_an_archive(tmp_path: Path) -> None:
    source = write_cub(tmp_path / "source")
    with pytest.raises(
        UserError, match=rf"--archive {source} is not a file: .* used where it lies, with --root\.$"
    ):
        prepare.prepare("cub", tmp_path / "root", [source])


@pytest.mark.parametrize(
    ("name", "write", "top"),
    [("cub", write_cub, "CUB_200_2011"), ("inshop", write_inshop, "img")],
)
def test_the_archives_own_folder_as_root_is_not_fetched_into(
    tmp_path: Path, name: str, write, top: str
) -> None:  # type: ignore[no-untyped-def]
    root = write(tmp_path) / top
    with pytest.raises(
        UserError, match=rf"{top} looks like what .* unpacks to: name its parent, {tmp_path}\."
    ):
        prepare.prepare(name, root)
    assert not (root / ".preparing").exists()


def test_the_annotations_may_come_after_the_images(tmp_path: Path) -> None:
    """As somebody does who reads what the first call said: once more, now with both."""
    source = write_cars(tmp_path / "source")
    images = Path(shutil.make_archive(str(tmp_path / "car_ims"), "gztar", source, "car_ims"))
    root, annotations = tmp_path / "root", source / "cars_annos.mat"
    with pytest.raises(UserError, match=r"car_ims.tar.gz was unpacked, but .*cars_annos.mat"):
        prepare.prepare("cars", root, [images])
    with pytest.raises(UserError, match=r"car_ims, which exists: leave the archive out if that came from it"):
        prepare.prepare("cars", root, [images, annotations])
    assert len(prepare.prepare("cars", root).query) == 7


def test_a_copy_that_is_not_whole_is_not_fetched_over(tmp_path: Path) -> None:
    file = write_cub(tmp_path) / "CUB_200_2011" / "images.txt"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    with pytest.raises(UserError, match="6 query images instead of 7"):
        prepare.prepare("cub", tmp_path)


def test_missing_and_empty_images_are_counted(tmp_path: Path) -> None:
    images = sorted((write_cub(tmp_path) / "CUB_200_2011" / "images").rglob("*.jpg"))
    images[1].unlink()
    images[3].write_bytes(b"")
    with pytest.raises(
        UserError, match=rf"{images[1]} is missing .* leave it out \(and 1 more such files\)\.$"
    ):
        prepare.prepare("cub", tmp_path)


@pytest.mark.parametrize("asked", ["--verify", "verify=true"])
def test_all_bad_images_are_listed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    write_tree(tmp_path, dict.fromkeys("abcd", 3))
    (tmp_path / "b" / "1.png").write_text("no image")
    assert run("folder", "--root", tmp_path) == 1
    assert capsys.readouterr().err.count("\n") == 1
    cut = tmp_path / "c" / "2.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (tmp_path / "d" / "0.png").unlink()
    (tmp_path / "d" / "0.png").symlink_to("0.png")
    assert run("folder", "--root", tmp_path) == 1  # whatever the headers tell
    assert capsys.readouterr().err.count("\n") == 3
    assert run("folder", "--root", tmp_path, asked) == 1
    first, *listed = capsys.readouterr().err.splitlines()
    assert first.startswith(f"Error: {tmp_path}/b/1.png is empty or not an image")
    assert first.endswith("(and 2 more such files).")
    for line, name in zip(listed, ["b/1.png", "c/2.png", "d/0.png"], strict=True):
        assert line.startswith(f"  {tmp_path}/{name} ")


def test_own_images_are_looked_into(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "b" / "0.png").write_text("no image")
    with pytest.raises(
        UserError, match=r"b/0.png is empty or not an image that can be read: .* or leave it out"
    ):
        prepare.prepare("folder", tmp_path)


def test_an_archive_that_is_not_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, archive = write_cub(tmp_path / "root"), packed(write_sop(tmp_path / "archive"))
    assert run("cub", "--root", root, "--archive", archive) == 0
    assert capsys.readouterr().err == f"Note: {root} holds cub already, so nothing was unpacked into it.\n"
    assert not (root / "Stanford_Online_Products").exists()


def test_duplicates_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2})
    shutil.copyfile(tmp_path / "a" / "0.png", tmp_path / "b" / "0.png")
    assert run("folder", "--root", tmp_path, "--duplicates") == 0
    out = capsys.readouterr().out
    assert "under different classes: 1\na/0.png (class 'a') = b/0.png (class 'b')\n" in out


def test_an_interrupt_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Split:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "load", interrupted)
    assert run("folder", "--root", tmp_path) == 130


def test_a_root_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"dataset.root=.*file cannot be used \(file exists\): give another name"
    ):
        prepare.prepare("cub", tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "write", "locked"),
    [("cub", write_cub, "CUB_200_2011/images.txt"), ("cars", write_cars, "cars_annos.mat")],
)
def test_a_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write, locked: str
) -> None:  # type: ignore[no-untyped-def]
    """Root may read whatever it likes, so the tests cannot rely on chmod."""
    file, usual = write(tmp_path) / locked, Path.open

    def refusing(path: Path, *args: object, **kwargs: object) -> object:
        if path == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(UserError, match=rf"^{file} cannot be used \(permission denied\): change"):
        prepare.prepare(name, tmp_path)


def test_nothing_is_fetched_for_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("digits", "--root", tmp_path) == 0
    assert "Split fingerprint: 69a499459f8b (the official list)" in capsys.readouterr().out


def test_labels_that_differ_by_white_space_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {"train/a": 2, "test/a ": 2, "test/b": 2})
    assert run("folder", "--root", tmp_path) == 1
    assert capsys.readouterr().err.startswith("Error: The classes 'a' and 'a ' look the same")


def test_a_table_is_named_as_for_training(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 2, "b": 2})
    rows = ["path,label,split", "a/0.png,a,train", "a/1.png,a,train", "b/0.png,b,test", "b/1.png,b,test"]
    (tmp_path / "other.csv").write_text("\n".join(rows))
    assert run("manifest", "dataset.file=other.csv", "--root", tmp_path) == 0


@pytest.mark.parametrize("script", ["dml/prepare.py", "scripts/prepare.py"])
def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    write_tree(tmp_path, {"a": 2, "b": 1})
    write_image(tmp_path / "stray.png")
    monkeypatch.setattr(sys, "argv", [script, "folder", "--root", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(__file__).parents[1] / script), run_name="__main__")
    *old_name, note = capsys.readouterr().err.splitlines()
    assert len(old_name) == (script == "scripts/prepare.py")
    assert note.startswith("Note: Not an image of a class, so skipped: ")
    assert str(ended.value.code).startswith("Error: The dataset has no test class with a second image")
