"""Errors a person at the command line can mend."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in the input or the configuration; its message is one sentence that says what to do."""


@contextmanager
def permitted() -> Iterator[None]:
    """Inside, a file or folder that may not be read or written is a UserError that names it."""
    try:
        yield
    except PermissionError as error:
        raise UserError(
            f"{error.filename} may not be used (permission denied): change its permissions or take a copy."
        ) from None
