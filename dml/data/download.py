"""Downloads that resume, are checked, and appear under their name only when whole."""

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import rich.progress

from dml.data.archive import extract
from dml.errors import UserError

__all__ = ["extract", "fetch", "md5_of"]

BLOCK = 1 << 20
TIMEOUT_SECONDS = 30
NETWORK = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)


def fetch(url: str, file: Path, md5: str | None) -> Path:
    """Download `url` to `file`, with progress; a file that is there already is checked and adopted.

    What has come is kept in `<file>.part`; a later call resumes from there if the server allows (HTTP Range).

    Args:
        url: http, https or ftp address.
        file: where the whole file goes; its folder is made.
        md5: hexadecimal digest the file must have; None takes what comes.

    Returns:
        `file`.

    Raises:
        UserError: no network, a dead address, a broken connection, a full disk, or another md5.
    """
    if file.is_file():
        _check(file, md5, "delete or rename it, then run again")
        return file
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not (md5 and part.is_file() and md5_of(part) == md5):
            _download(url, part)
    except urllib.error.HTTPError as error:
        raise UserError(
            f"{url} answers {error.code} {error.reason}: the file is not to be had there."
        ) from None
    except NETWORK as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"Cannot fetch {url} ({reason}): check the network, then run again to resume."
        ) from None
    except OSError as error:
        raise UserError(f"Cannot write {part}: {error.strerror or error}.") from None
    try:
        _check(part, md5, "it was deleted; run again, or get the file elsewhere")
    except UserError:
        part.unlink()
        raise
    return part.replace(file)


def md5_of(file: Path) -> str:
    """Hexadecimal md5 of a file's content."""
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _check(file: Path, md5: str | None, remedy: str) -> None:
    if md5 is not None and (found := md5_of(file)) != md5:
        raise UserError(f"{file} is not the file expected (md5 {found}, not {md5}): {remedy}.")


def _request(url: str, start: int) -> urllib.request.Request:
    headers = {"User-Agent": "dml"} | ({"Range": f"bytes={start}-"} if start else {})
    return urllib.request.Request(url, headers=headers)


def _download(url: str, part: Path) -> None:
    """Write what is at `url` to `part`, going on from the bytes that are there."""
    start = part.stat().st_size if part.is_file() else 0
    try:
        response = urllib.request.urlopen(_request(url, start), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        part.unlink()
        return _download(url, part)
    with response, rich.progress.Progress(*COLUMNS) as progress:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = progress.add_task(part.stem, total=total, completed=start)
        with part.open("ab" if start else "wb") as sink:
            while block := response.read(BLOCK):
                sink.write(block)
                progress.advance(bar, len(block))
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"the connection broke after {part.stat().st_size:,} of {total:,} bytes")


COLUMNS = (
    rich.progress.TextColumn("{task.description}"),
    rich.progress.BarColumn(),
    rich.progress.DownloadColumn(),
    rich.progress.TransferSpeedColumn(),
    rich.progress.TimeRemainingColumn(),
)
