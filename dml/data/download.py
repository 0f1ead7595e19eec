"""A dataset's archives: fetched, held against their md5, and unpacked whole or not at all."""

import fcntl
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import pooch
import requests
import rich.progress

from dml.errors import UserError, permitted

T = TypeVar("T")
TIMEOUT_SECONDS = 30
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError),
    RecursionError,  # folders that Python's own functions can neither make nor remove
)
JUNK = "__MACOSX"


class Source(NamedTuple):
    """A file that a dataset is made from.

    Attributes:
        file: its name in the dataset's root.
        makes: the folder it unpacks to; its own name where there is nothing to unpack.
        md5: hexadecimal digest, None where none is published.
        url: where to fetch it; None where only a person can.
    """

    file: str
    makes: str
    md5: str | None
    url: str | None = None


class Origin(NamedTuple):
    """Where a dataset comes from; `dml.prepare` reads a dataset's module for `ORIGIN`.

    Attributes:
        dataset: name of its yaml.
        sources: the files it is made from, in the order to bring them.
        elsewhere: what a person can do when a source cannot be fetched, to end a sentence with.
    """

    dataset: str
    sources: Sequence[Source]
    elsewhere: str


def folder_of(root: Path, origin: Origin, download: bool) -> Path:
    """The folder that the last source unpacks to; see `located`."""
    top = root / origin.sources[-1].makes
    return located(root, origin, lambda: top if top.is_dir() else None, f"{top.name}/", download)


def located(root: Path, origin: Origin, find: Callable[[], T | None], sought: str, download: bool) -> T:
    """What `find` returns, fetched and unpacked first if that is None and `download` is set.

    A UserError if `root` does not hold what is `sought`, or is itself what a source unpacks to.
    """
    found = find()
    if found is not None:
        return found
    for source in origin.sources:
        if root.name == source.makes and root.is_dir() and any(child.is_dir() for child in root.iterdir()):
            raise UserError(
                f"dataset.root={root} looks like what {source.file} unpacks to: name its parent, {root.parent}."
            )
    if download:
        acquire(root, origin)
        found = find()
    if found is None:
        raise UserError(
            f"dataset.root={root} does not hold {sought}: name the folder that does, set dataset.download=true, or run "
            f"'python -m dml.prepare {origin.dataset} --root {root}', which fetches it or tells how to get it."
        )
    return found


def acquire(root: Path, origin: Origin) -> None:
    """Fetch and unpack the sources that `root` does not hold unpacked; an archive that lies there is used.

    Of several processes one does this, and the others wait.
    """
    with permitted(f"dataset.root={root}"):
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".preparing").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for source in origin.sources:
            if (root / source.makes).exists():
                continue
            try:
                fetch(source, root)
            except UserError as error:
                raise UserError(f"{str(error).rstrip('.')}; {origin.elsewhere}") from None
            if source.file != source.makes:
                extract(root / source.file, root)


def fetch(source: Source, root: Path) -> None:
    """Download a source to its place in `root`; one that is there already is checked and left as it is."""
    file = root / source.file
    if file.is_file():
        check_md5(file, source.md5, "delete or rename it, then run again")
        return
    if source.url is None:
        raise UserError(f"{source.file} is not in {root} and cannot be fetched from anywhere")
    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT_SECONDS)
    md5 = source.md5 and f"md5:{source.md5}"
    with permitted(file):
        try:
            pooch.retrieve(source.url, md5, file.name, file.parent, downloader=downloader)
        except requests.HTTPError as error:
            raise UserError(f"{source.url} is not to be had ({error}).") from None
        except requests.RequestException as error:
            raise UserError(
                f"Cannot fetch {source.url} ({error}): check the network, then run again."
            ) from None
        except ValueError:
            raise UserError(
                f"{source.url} is not the file expected (its md5 is not {source.md5}) and was deleted: run again, or "
                "get it elsewhere."
            ) from None


def check_md5(file: Path, md5: str | None, remedy: str) -> None:
    """Raise UserError if a digest is known and the file has another."""
    if md5 and (found := pooch.file_hash(str(file), alg="md5")) != md5:
        raise UserError(f"{file} is not the file expected (md5 {found}, not {md5}): {remedy}.")


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or a (compressed) tar, so that its top entries come to lie in `folder`, all or none.

    Unpacks into a hidden folder inside `folder` and moves the top entries into place at the end: an
    interrupted run leaves nothing that passes for whole. Nothing is written outside.

    Raises:
        UserError: not a whole archive; an entry that leads out of the folder, or a device; a link in a zip; a
            password; a full disk; a top folder that is there already.
    """
    staging = folder / f".unpacking-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        with rich.progress.open(archive, "rb", description=f"Unpacking {archive.name}") as file:
            _unpack(archive, file, staging)
        _place(staging, folder, archive)
    except tarfile.FilterError as error:
        raise UserError(f"{archive} was not unpacked, for it is not safe: {error}.") from None
    except DAMAGED as error:
        raise UserError(
            f"{archive} is damaged, not whole, or no zip or tar archive ({error}): delete it and get it again."
        ) from None
    except OSError as error:
        raise UserError(
            f"Cannot unpack {archive} into {folder}: {error.strerror or error}; nothing was left there, so mend that "
            "and run it again."
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack(archive: Path, file: BinaryIO, staging: Path) -> None:
    # A tar first: one that ends with a zip passes for a zip.
    if tarfile.is_tarfile(archive):
        with tarfile.open(fileobj=file) as tar:
            tar.extractall(staging, filter="data")
        return
    with zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            if info.flag_bits & 1:
                raise UserError(f"{archive} is locked with a password: get the version without one.")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise UserError(f"{archive} holds {info.filename!r}, a link: not unpacked.")
        opened.extractall(staging)


def _place(staging: Path, folder: Path, archive: Path) -> None:
    """Move the unpacked top entries into the folder; a stray file is replaced, a folder never."""
    entries = [entry for entry in sorted(staging.iterdir()) if entry.name != JUNK]
    for entry in entries:
        if (folder / entry.name).is_dir():
            raise UserError(
                f"{archive} would unpack over {folder / entry.name}, which exists: leave the archive out if that "
                "came from it, or move that away first."
            )
    for entry in entries:
        entry.replace(folder / entry.name)
