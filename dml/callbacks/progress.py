"""The progress bar."""

import sys

from pytorch_lightning.callbacks import TQDMProgressBar


def progress_bar(refresh_rate: int = 10) -> TQDMProgressBar:
    """Lightning's bar, redrawn every `refresh_rate` steps on a terminal; none where the output goes to a file."""
    return TQDMProgressBar(refresh_rate if sys.stdout.isatty() else 0)
