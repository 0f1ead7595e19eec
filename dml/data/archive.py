"""Unpacking archives from strangers: nothing outside the folder, and all or nothing inside it."""

import errno
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, runtime_checkable

import rich.progress

from dml.errors import UserError

DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,
)
JUNK = "__MACOSX"


@runtime_checkable
class Readable(Protocol):
    """What the members of archives have in common."""

    def read(self, size: int = -1, /) -> bytes: ...


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or a (compressed) tar, so that its top entries come to lie in `folder`, all or none.

    Unpacks into a hidden folder inside `folder` and moves the top entries into place at the end: an
    interrupted run leaves nothing that passes for whole. Only plain files and folders are written; a link
    inside a tar becomes a copy of what it points to.

    Raises:
        UserError: not a whole archive; a name, link or device that leads out of the folder; a password;
            a full disk; a top folder that is there already.
    """
    staging = folder / f".unpacking-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        with rich.progress.open(archive, "rb", description=f"Unpacking {archive.name}") as file:
            for name, content in _entries(archive, file):
                _write(staging / name, content)
        _place(staging, folder, archive)
    except DAMAGED as error:
        raise UserError(f"{archive} is damaged or not whole ({error}): delete it and get it again.") from None
    except OSError as error:
        reason = (
            "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        )
        raise UserError(
            f"Cannot unpack {archive} into {folder}: {reason}; nothing was left there, so mend that and run "
            "it again."
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(target: Path, content: Readable | None) -> None:
    """Write one entry; None is a folder."""
    if content is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as sink:
        shutil.copyfileobj(content, sink, 1 << 20)


def _place(staging: Path, folder: Path, archive: Path) -> None:
    """Move the unpacked top entries into the folder; a stray file is replaced, a folder never."""
    entries = sorted(staging.iterdir())
    for entry in entries:
        if (folder / entry.name).is_dir():
            raise UserError(
                f"{archive} would unpack over {folder / entry.name}, which exists: leave the archive out if that "
                "came from it, or move that away first."
            )
    for entry in entries:
        entry.replace(folder / entry.name)


def _entries(archive: Path, file: BinaryIO) -> Iterator[tuple[str, Readable | None]]:
    """Checked names and contents of an archive, a folder's content being None."""
    # A tar first: one that ends with a zip passes for a zip.
    if tarfile.is_tarfile(archive):
        entries = _tar_entries(archive, file)
    elif zipfile.is_zipfile(archive):
        entries = _zip_entries(archive, file)
    else:
        raise UserError(
            f"{archive} is not a whole zip or tar archive: delete it and get it again "
            "(a download cut short, or a web page saved in its place, looks like this)."
        )
    for name, content in entries:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{archive} holds {name!r}, which leads out of the folder: not unpacked.")
        if path.parts and path.parts[0] != JUNK:
            yield str(path), content


def _zip_entries(archive: Path, file: BinaryIO) -> Iterator[tuple[str, Readable | None]]:
    with zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive} holds {info.filename!r}, a link or a device: not unpacked.")
            if info.flag_bits & 1:
                raise UserError(f"{archive} is locked with a password: get the version without one.")
            yield info.filename, None if info.is_dir() else opened.open(info)


def _tar_entries(archive: Path, file: BinaryIO) -> Iterator[tuple[str, Readable | None]]:
    with tarfile.open(fileobj=file) as opened:
        for member in opened:
            if member.isdir():
                yield member.name, None
                continue
            if not (member.isfile() or member.issym() or member.islnk()):
                raise UserError(f"{archive} holds {member.name!r}, a device: not unpacked.")
            try:
                content = opened.extractfile(member)
            except (KeyError, RecursionError):
                content = None
            if content is None:
                raise UserError(
                    f"{archive} holds {member.name!r}, a link to {member.linkname!r}, "
                    "which is no file of the archive: not unpacked."
                )
            yield member.name, content
