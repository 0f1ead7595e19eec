"""Errors and warnings that a user at the command line can act on."""

import errno
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """A mistake in the input or the configuration; its message is one sentence that says what to do.

    A DataLoader raises a worker's error again with the worker's traceback as its message, which ends in
    `UserError: ` and the sentence.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rsplit("UserError: ", 1)[-1].strip())


# What the system says of a file or folder that a person has to do something about.
ADVICE = {
    "free some space or give another folder": ("ENOSPC", "EDQUOT", "EFBIG"),
    "change its permissions or give another folder": ("EACCES", "EPERM", "EROFS"),
    "give another name": ("ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "ELOOP"),
    "check that its disk is still there": ("EIO", "ESTALE", "ENXIO"),
}


def unusable(error: OSError, path: str | os.PathLike[str] | None = None) -> UserError | None:
    """A system's error about a file or folder, as a sentence; None where the code is to blame.

    Args:
        error: what the system said.
        path: file, if the error does not know it.
    """
    for advice, names in ADVICE.items():
        if errno.errorcode.get(error.errno or 0) in names:
            what = path or error.filename or "A file"
            return UserError(f"{what} cannot be used ({str(error.strerror).lower()}): {advice}.")
    return None


@contextmanager
def permitted(path: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Inside, a file or folder that cannot be read or written is a UserError that names it."""
    try:
        yield
    except OSError as error:
        raise unusable(error, path) or error from None


class Note(UserWarning):
    """A warning about the input, in one sentence, that a user should know of."""


def note(message: str) -> None:
    """Warn by a `Note`."""
    warnings.warn(message, Note, stacklevel=3)


@contextmanager
def printed_notes() -> Iterator[None]:
    """Inside, the first process prints each note as one line on stderr; other warnings are unchanged."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, *place: Any, **more: Any
        ) -> None:
            from dml.distributed import is_first_process  # imports torch

            if Path(filename).parent.name == "PIL":
                return  # the checks before training have said it, with the name of the image
            if not issubclass(category, Note):
                usual(message, category, filename, *place, **more)
            elif is_first_process():
                print(f"Note: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


def quote(names: Sequence[str]) -> str:
    """The first of several names, and how many more there are."""
    return f"'{names[0]}'" + (f" (and {len(names) - 1:,} more)" if len(names) > 1 else "")


def printable(name: str) -> str:
    """The name with bytes that are no text, as those of files may hold, replaced by a question mark."""
    return os.fsencode(name).decode(errors="replace")
