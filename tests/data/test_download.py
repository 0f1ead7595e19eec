"""Archives over HTTP from a server on this machine, checked, unpacked whole or not at all."""

import contextlib
import errno
import io
import shutil
import socket
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_benchmarks import Site, serving, write_tree

from dml.data.download import Origin, Source, acquire, extract, fetch
from dml.errors import UserError

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "site") as site:
        (site.folder / "file.bin").write_bytes(CONTENT)
        yield site


@pytest.fixture
def source(site: Site) -> Source:
    return site.source("file.bin", "file.bin")


def test_a_whole_file(source: Source, tmp_path: Path) -> None:
    fetch(source, tmp_path / "new")
    assert (tmp_path / "new" / "file.bin").read_bytes() == CONTENT
    assert left_in(tmp_path / "new") == ["file.bin"]


@pytest.mark.parametrize("md5", [True, False])
def test_a_broken_connection_leaves_nothing(site: Site, source: Source, tmp_path: Path, md5: bool) -> None:
    site.break_after = 3_000
    root = tmp_path / "root"
    source = source if md5 else source._replace(md5=None)
    with pytest.raises(UserError, match=rf"Cannot fetch {source.url} .*: check the network, then run again"):
        fetch(source, root)
    assert left_in(root) == []
    site.break_after = None
    fetch(source, root)
    assert (root / "file.bin").read_bytes() == CONTENT


def test_a_file_that_is_there_is_adopted(site: Site, source: Source, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    fetch(source, tmp_path)
    fetch(source._replace(md5=None), tmp_path)
    assert site.asked == []


def test_another_file_of_that_name_is_left_alone(source: Source, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_text("mine")
    with pytest.raises(
        UserError, match=rf"file.bin is not the file expected \(md5 \w+, not {source.md5}\): delete or"
    ):
        fetch(source, tmp_path)
    assert file.read_text() == "mine"


def test_a_wrong_md5_is_not_kept(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the file expected"):
        fetch(source._replace(md5="0" * 32), tmp_path / "root")
    assert left_in(tmp_path / "root") == []


def test_an_address_that_is_gone(site: Site, tmp_path: Path) -> None:
    gone = Source("gone.bin", "gone.bin", None, f"{site.url}/gone.bin")
    with pytest.raises(UserError, match=rf"{gone.url} is not to be had \(404 .*\)") as refused:
        fetch(gone, tmp_path)
    assert "\n" not in str(refused.value)


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    source = Source("file.bin", "file.bin", None, "https://host.invalid/file.bin")
    with pytest.raises(
        UserError, match=r"Cannot fetch .*/file.bin .*name resolution.*check the network"
    ) as no:
        fetch(source, tmp_path)
    assert "\n" not in str(no.value)


def test_a_server_that_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dml.data.download.TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.bin"
        with pytest.raises(UserError, match="timed out"):
            fetch(Source("file.bin", "file.bin", None, url), tmp_path)


def test_a_disk_that_fills_up_while_fetching(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    with pytest.raises(UserError, match=r"file.bin cannot be used \(no space left on device\): free some"):
        fetch(source, tmp_path)


def test_of_several_processes_one_fetches(site: Site, source: Source, tmp_path: Path) -> None:
    """A lock of files holds between threads as between processes."""
    origin = Origin("x", [source], "elsewhere.")
    together = [threading.Thread(target=acquire, args=(tmp_path / "root", origin)) for _ in range(4)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert site.asked == ["/file.bin"]


def test_what_else_a_person_can_do_is_said(tmp_path: Path) -> None:
    for url, problem in (("http://127.0.0.1:9/x.zip", "Cannot fetch"), (None, "x.zip is not in")):
        with pytest.raises(UserError, match=rf"{problem} .*; ask a friend\.$"):
            acquire(tmp_path, Origin("x", [Source("x.zip", "x", None, url)], "ask a friend."))


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
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_nothing_is_written_outside(tmp_path: Path, name: str, form: str) -> None:
    """Refused, or unpacked inside under the rest of the name."""
    if form == "zip":
        archive = make_zip(tmp_path / "a.zip", {"top/fine.txt": "", name: ""})
    else:
        archive = make_tar(tmp_path / "a.tgz", [member("top/fine.txt"), member(name)])
    with contextlib.suppress(UserError):
        extract(archive, tmp_path / "root")
    assert {path.name for path in tmp_path.iterdir()} <= {archive.name, "root"}
    assert not Path("/evil.txt").exists()


@pytest.mark.parametrize(
    "unsafe",
    [
        member("top/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("top/link", tarfile.SYMTYPE, "../../outside"),
        member("top/link", tarfile.LNKTYPE, "../outside"),
        member("../evil.txt"),
        member("top/null", tarfile.CHRTYPE),
    ],
    ids=lambda unsafe: f"{unsafe.name} {unsafe.linkname}",
)
def test_what_leads_out_of_a_tar_is_refused(tmp_path: Path, unsafe: tarfile.TarInfo) -> None:
    (tmp_path / "outside").write_text("secret")
    archive = make_tar(tmp_path / "a.tar", [member("top/a.txt"), unsafe], "w")
    with pytest.raises(UserError, match=r"a.tar was not unpacked, for it is not safe: .*"):
        extract(archive, tmp_path / "root")
    assert left_in(tmp_path / "root") == []


def test_writing_through_a_link_is_not_possible(tmp_path: Path) -> None:
    """A link to a folder outside, then a file 'inside' it."""
    members = [member("top", tarfile.SYMTYPE, str(tmp_path)), member("top/evil.txt")]
    with pytest.raises(UserError, match="not safe"):
        extract(make_tar(tmp_path / "a.tar", members, "w"), tmp_path / "root")
    assert not (tmp_path / "evil.txt").exists()


def test_a_link_inside_leads_to_its_file(tmp_path: Path) -> None:
    members = [
        member("top/a.txt"),
        member("top/hard.txt", tarfile.LNKTYPE, "top/a.txt"),
        member("top/soft.txt", tarfile.SYMTYPE, "a.txt"),
    ]
    extract(make_tar(tmp_path / "a.tgz", members), tmp_path / "root")
    for name in ("a.txt", "hard.txt", "soft.txt"):
        assert (tmp_path / "root" / "top" / name).read_text() == "ok"


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("top/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"'top/link', a link: not unpacked"):
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
    with pytest.raises(UserError, match=r"CUB_200_2011.tgz is damaged, not whole, or no zip or tar archive"):
        extract(file, tmp_path / "root")


@pytest.mark.parametrize("form", ["zip", "gztar", "tar"])
def test_an_archive_cut_short(tmp_path: Path, form: str) -> None:
    source = write_tree(tmp_path / "source", {"top/a": 40})
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), form, source))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(UserError, match=r"archive\.\S+ is damaged, not whole, or no"):
        extract(archive, tmp_path / "root")
    assert left_in(tmp_path / "root") == []


def test_a_damaged_byte_in_a_zip(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {"top/a.txt": "abcdefgh"})
    file.write_bytes(file.read_bytes().replace(b"abcdefgh", b"abcdefgX"))
    with pytest.raises(UserError, match="is damaged, not whole, or no"):
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
    with pytest.raises(UserError, match=r"Cannot unpack .*a.zip into .*root: No space left on device"):
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
