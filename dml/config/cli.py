"""Shared by all commands: the folder of the configurations, and how a mistake is reported."""

import functools
import logging
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dml.errors import UserError, printed_notes
from dml.runs.failures import end_with_parent, end_workers, machine_failures
from dml.runs.folder import new_folder

# A new folder for each run, the same on all its processes and at every call.
OmegaConf.register_new_resolver("new_folder", new_folder, use_cache=True, replace=True)

# Beside the package in the repository, inside it when installed.
_PACKAGE = Path(__file__).resolve().parents[1]
CONF = str(next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir()))

# A full disk must not fill the terminal with tracebacks of log lines.
logging.raiseExceptions = False

# Lightning's own use of torch; a user cannot act on it.
warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
# It counts steps in an epoch, but logs by steps in the run, so nothing is lost.
warnings.filterwarnings(
    "ignore", message=r"The number of training batches \(\d+\) is smaller than the logging"
)


def one_sentence(command: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """A command that reports a user's mistake in one sentence and exit code 1, without a traceback."""

    @functools.wraps(command)
    def wrapped(config: DictConfig) -> None:
        end_with_parent()
        try:
            with printed_notes(), machine_failures():
                command(config)
        except UserError as error:
            sys.exit(f"Error: {error}")
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        finally:
            end_workers()

    return wrapped
