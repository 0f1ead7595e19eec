"""Bringing a dataset's archives to where they are used: fetched, or adopted where they lie already."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dml.data.datasets.annotations import folders_of
from dml.data.download import extract, fetch
from dml.errors import UserError


class Source(NamedTuple):
    """A file that a dataset is made from.

    Attributes:
        file: its name in the dataset's root.
        makes: the folder it unpacks to; its own name where there is nothing to unpack.
        md5: hexadecimal digest, None where none is published.
        urls: where to fetch it, in the order to try; none where only a person can.
    """

    file: str
    makes: str
    md5: str | None
    urls: tuple[str, ...] = ()


def acquire(root: Path, sources: Sequence[Source], elsewhere: str) -> None:
    """Fetch or adopt whatever of the sources `root` does not hold unpacked; with all there, do nothing.

    Args:
        root: the dataset's root; made where it is not.
        sources: in the order to bring them.
        elsewhere: what a person can do when a source is not to be had, to end a sentence with.

    Raises:
        UserError: from `fetch` or `extract`, with `elsewhere` added; `root` is itself what a source unpacks to.
    """
    for source in sources:
        if root.name == source.makes and folders_of(root):
            raise UserError(
                f"{root} looks like what {source.file} unpacks to: name its parent, {root.parent}, instead."
            )
    with only_one_process(root):
        for source in sources:
            if not (root / source.makes).exists():
                _bring(root, source, elsewhere)


def _bring(root: Path, source: Source, elsewhere: str) -> None:
    file = root / source.file
    if not source.urls and not file.is_file():
        raise UserError(f"{source.file} is not in {root} and cannot be fetched from anywhere; {elsewhere}")
    try:
        _fetch_from_any(source.urls or ("",), file, source.md5)
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}; {elsewhere}") from None
    if source.file != source.makes:
        extract(file, root)


def _fetch_from_any(urls: tuple[str, ...], file: Path, md5: str | None) -> None:
    for url in urls:
        try:
            fetch(url, file, md5)
            return
        except UserError:
            # A part that has come is worth more than another address, which might begin it anew.
            if url == urls[-1] or file.is_file() or file.with_name(f"{file.name}.part").exists():
                raise


def top_folder(root: Path, top: str, dataset: str) -> Path:
    """The folder that the dataset's archive unpacks to.

    Raises:
        UserError: it is not in `root`; tells what to do.
    """
    if (root / top).is_dir():
        return root / top
    if root.name == top and root.is_dir():
        raise UserError(f"dataset.root={root} is {top}/ itself: give its parent, {root.parent}.")
    raise UserError(
        f"dataset.root={root} does not hold {top}/: name the folder that does, or fetch it with "
        f"'python scripts/prepare.py {dataset} --root {root}'."
    )


@contextmanager
def only_one_process(root: Path, key: str = "dataset.root") -> Iterator[None]:
    """Let the processes of one training wait for one another: the first makes, the others find."""
    if root.is_file():
        raise UserError(f"{key}={root} is a file: name a folder.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".preparing").open("w")
    except OSError as error:
        raise UserError(f"Cannot write to {key}={root}: {error.strerror}.") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
