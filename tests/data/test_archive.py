import errno
import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from fake_benchmarks import write_tree

from dml.data.archive import extract
from dml.errors import UserError


def make_zip(file: Path, entries: dict[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return file


def make_tar(file: Path, members: list[tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for member in members:
            member.size = 2 if member.isfile() else 0
            archive.addfile(member, io.BytesIO(b"ok"))
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("form", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_every_kind_of_archive(tmp_path: Path, form: str) -> None:
    source = write_tree(tmp_path / "source", {"top/a": 2, "top/naïve = b, c": 1})
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), form, source))
    extract(archive, tmp_path / "root")
    assert left_in(tmp_path / "root") == left_in(source)
    image = "top/naïve = b, c/0.png"
    assert (tmp_path / "root" / image).read_bytes() == (source / image).read_bytes()


@pytest.mark.parametrize("name", ["../evil.txt", "top/../../evil.txt", "/evil.txt"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    for archive in (
        make_zip(tmp_path / "a.zip", {"top/fine.txt": "", name: ""}),
        make_tar(tmp_path / "a.tgz", [member("top/fine.txt"), member(name)]),
    ):
        with pytest.raises(UserError, match=r"evil.txt', which leads out of the folder"):
            extract(archive, root)
        assert left_in(root) == []
        assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../outside"),
        (tarfile.LNKTYPE, "../outside"),
        (tarfile.SYMTYPE, "link"),
        (tarfile.SYMTYPE, "."),
    ],
)
def test_links_that_lead_out_or_nowhere_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    (tmp_path / "outside").write_text("secret")
    archive = make_tar(tmp_path / "a.tar", [member("top/a.txt"), member("top/link", kind, target)], "w")
    with pytest.raises(UserError, match=r"'top/link', a link to .* no file of the archive"):
        extract(archive, tmp_path / "root")
    assert left_in(tmp_path / "root") == []


def test_writing_through_a_link_is_not_possible(tmp_path: Path) -> None:
    """A link to a folder outside, then a file 'inside' it."""
    members = [member("top", tarfile.SYMTYPE, str(tmp_path)), member("top/evil.txt")]
    with pytest.raises(UserError, match="a link to"):
        extract(make_tar(tmp_path / "a.tar", members, "w"), tmp_path / "root")
    assert not (tmp_path / "evil.txt").exists()


def test_a_link_inside_becomes_a_copy(tmp_path: Path) -> None:
    members = [
        member("top/a.txt"),
        member("top/hard.txt", tarfile.LNKTYPE, "top/a.txt"),
        member("top/soft.txt", tarfile.SYMTYPE, "a.txt"),
    ]
    extract(make_tar(tmp_path / "a.tgz", members), tmp_path / "root")
    for name in ("a.txt", "hard.txt", "soft.txt"):
        file = tmp_path / "root" / "top" / name
        assert file.read_text() == "ok"
        assert not file.is_symlink()


def test_devices_are_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", [member("top/null", tarfile.CHRTYPE)], "w")
    with pytest.raises(UserError, match=r"'top/null', a device"):
        extract(archive, tmp_path / "root")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("top/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"'top/link', a link or a device"):
        extract(tmp_path / "a.zip", tmp_path / "root")


def test_a_password_is_told(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "img_highres.zip", {"img/a.jpg": "x"})
    content = bytearray(file.read_bytes())
    # Bit 0 of the general purpose flags, at byte 6 of the local and byte 8 of the central header.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"img_highres.zip is locked with a password"):
        extract(file, tmp_path / "root")


def test_what_is_no_archive(tmp_path: Path) -> None:
    file = tmp_path / "CUB_200_2011.tgz"
    file.write_text("<html>Please sign in</html>")
    with pytest.raises(UserError, match=r"CUB_200_2011.tgz is not a whole zip or tar archive"):
        extract(file, tmp_path / "root")


@pytest.mark.parametrize("form", ["zip", "gztar", "tar"])
def test_an_archive_cut_short(tmp_path: Path, form: str) -> None:
    source = write_tree(tmp_path / "source", {"top/a": 40})
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), form, source))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(UserError, match=r"archive\.\S+ is (damaged or not whole|not a whole zip or tar)"):
        extract(archive, tmp_path / "root")
    assert left_in(tmp_path / "root") == []


def test_a_damaged_byte_in_a_zip(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {"top/a.txt": "abcdefgh"})
    file.write_bytes(file.read_bytes().replace(b"abcdefgh", b"abcdefgX"))
    with pytest.raises(UserError, match="is damaged or not whole"):
        extract(file, tmp_path / "root")
    assert left_in(tmp_path / "root") == []


def test_a_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        extract(tmp_path / "a.zip", tmp_path / "root")


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", {"top/a.txt": "a", "top/b.txt": "b"})
    copy, calls = shutil.copyfileobj, []

    def fill(*args: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "copyfileobj", fill)
    with pytest.raises(UserError, match=r"Cannot unpack .*a.zip into .*root: the disk is full"):
        extract(archive, tmp_path / "root")
    assert left_in(tmp_path / "root") == []
    extract(archive, tmp_path / "root")
    assert left_in(tmp_path / "root") == ["top", "top/a.txt", "top/b.txt"]


def test_what_a_killed_run_left_does_not_pass_for_whole(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"top/a.txt": "a"})
    (tmp_path / ".unpacking-a.zip" / "top").mkdir(parents=True)
    (tmp_path / ".unpacking-a.zip" / "top" / "half.txt").write_text("half")
    extract(archive, tmp_path)
    assert left_in(tmp_path) == ["a.zip", "top", "top/a.txt"]


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    write_tree(tmp_path / "root", {"top": 1})
    with pytest.raises(UserError, match=r"would unpack over .*top, which exists"):
        extract(make_zip(tmp_path / "a.zip", {"top/0.png": "", "new.txt": ""}), tmp_path / "root")
    assert left_in(tmp_path / "root") == ["top", "top/0.png"]
    assert (tmp_path / "root" / "top" / "0.png").stat().st_size


def test_the_litter_of_macs_is_left_out(tmp_path: Path) -> None:
    extract(make_zip(tmp_path / "a.zip", {"__MACOSX/top/._a": "", "top/a": ""}), tmp_path / "root")
    assert left_in(tmp_path / "root") == ["top", "top/a"]
