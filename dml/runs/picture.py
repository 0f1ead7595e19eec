"""Pictures and reports, made once the figures are safe."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from dml.errors import UserError, note
from dml.runs.failures import whole_file


def save_picture(file: Path, draw: Callable[[], Figure]) -> None:
    """Draw and save a picture, whole or not at all; where an image or the disk does not let it, a note says so."""
    with noted(file, "drawn"), whole_file(file) as part, warnings.catch_warnings():
        # The font draws a box for a letter that it lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        draw().savefig(part, format="png")


@contextmanager
def noted(file: Path, done: str) -> Iterator[None]:
    """Inside, an image or a disk that does not let a file be "drawn", or whatever is done to it, is a note."""
    try:
        yield
    except (OSError, MemoryError, UserError) as error:
        reason = str(error).rstrip(".") or "out of memory"
        note(f"{file} could not be {done} ({reason}); all figures are written.")
