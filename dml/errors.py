"""Errors and warnings that a user at the command line can act on."""

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


@contextmanager
def permitted() -> Iterator[None]:
    """Inside, a file or folder that may not be read or written is a UserError that names it."""
    try:
        yield
    except PermissionError as error:
        raise UserError(
            f"{error.filename} may not be used (permission denied): change its permissions or take a copy."
        ) from None


class Note(UserWarning):
    """A warning about the input, in one sentence, that a user should know of."""


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
