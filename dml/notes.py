"""Words to a person that stop nothing."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Note(UserWarning):
    """Something about the input that a person should know; its message is one sentence."""


@contextmanager
def printed_notes() -> Iterator[None]:
    """Inside, notes are one line each on stderr, without the code that gave them; other warnings are as ever."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, Note):
                print(f"Note: {message}", file=sys.stderr)
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield
