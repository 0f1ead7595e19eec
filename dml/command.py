"""What every command of the package shares: where its configurations are, and how it says what went wrong."""

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from dml import started
from dml.errors import UserError
from dml.notes import printed_notes

started.register()

# Beside the package in the repository, inside it when installed.
_PACKAGE = Path(__file__).resolve().parent
CONF = str(next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir()))

# Lightning's own, about its use of torch; nothing a person here could act on.
warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
# It counts steps in an epoch, but logs by steps in the run, so nothing is lost.
warnings.filterwarnings(
    "ignore", message=r"The number of training batches \(\d+\) is smaller than the logging"
)


def one_sentence(command: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """A command that reports a person's mistake in one sentence and exit code 1, without a traceback."""

    @functools.wraps(command)
    def wrapped(config: DictConfig) -> None:
        try:
            with printed_notes():
                command(config)
        except UserError as error:
            sys.exit(f"Error: {error}")

    return wrapped
