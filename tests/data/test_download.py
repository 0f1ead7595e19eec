import errno
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dml.data.download import fetch
from dml.errors import UserError

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; notes every Range asked for; can break off after some bytes, once."""

    ranges: list[str | None]
    supports_range = True
    status = 200
    break_after: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.supports_range else 0
        if self.server.status != 200 or start >= len(CONTENT):
            self.send_error(416 if self.server.status == 200 else self.server.status)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop, self.server.break_after = self.server.break_after or len(CONTENT), None
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.ranges = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.bin"
    assert fetch(server.url, file, MD5) == file
    assert file.read_bytes() == CONTENT
    assert [path.name for path in file.parent.iterdir()] == ["file.bin"]


def test_a_broken_connection_resumes(server: Server, tmp_path: Path) -> None:
    server.break_after = 3_000
    file = tmp_path / "file.bin"
    with pytest.raises(UserError, match=r"broke after 3,000 of 10,240 bytes\): .* run again to resume"):
        fetch(server.url, file, MD5)
    assert not file.exists()
    assert fetch(server.url, file, MD5).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=3000-"]


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.supports_range = False
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:100])
    assert fetch(server.url, tmp_path / "file.bin", MD5).read_bytes() == CONTENT


def test_a_part_that_is_whole_is_adopted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "file.bin", MD5).read_bytes() == CONTENT
    assert server.ranges == []


def test_a_part_that_is_too_long_starts_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert fetch(server.url, tmp_path / "file.bin", MD5).read_bytes() == CONTENT
    assert server.ranges == ["bytes=10244-", None]


def test_a_file_that_is_there_is_adopted(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:9/none", file, MD5) == file
    assert fetch("http://127.0.0.1:9/none", file, None) == file


def test_another_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_text("mine")
    with pytest.raises(
        UserError, match=rf"file.bin is not the file expected \(md5 \w+, not {MD5}\): delete or"
    ):
        fetch("http://127.0.0.1:9/none", file, MD5)
    assert file.read_text() == "mine"


def test_a_wrong_md5_is_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the file expected"):
        fetch(server.url, tmp_path / "file.bin", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_gone(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match=rf"{server.url} answers 404 Not Found"):
        fetch(server.url, tmp_path / "file.bin", MD5)


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket, "gethostbyname", no_network)
    for scheme in ("https", "ftp"):
        with pytest.raises(UserError, match=r"Cannot fetch .*/file.bin .*name resolution.*check the network"):
            fetch(f"{scheme}://host.invalid/file.bin", tmp_path / "file.bin", MD5)


def test_a_server_that_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dml.data.download.TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.bin"
        with pytest.raises(UserError, match="timed out"):
            fetch(url, tmp_path / "file.bin", MD5)


def test_a_disk_that_fills_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"Cannot write .*file.bin.part: No space left on device"):
        fetch(server.url, tmp_path / "file.bin", None)
