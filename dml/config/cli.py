"""What every command of the package shares: where its configurations are, and how it says what went wrong."""

import functools
import os
import sys
import time
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dml.errors import UserError, printed_notes

WAIT = timedelta(seconds=60)


@cache
def started() -> float:
    """Seconds since the epoch at which this process's run started.

    torchrun starts every process by itself, so that each would take the time by its own clock: the first puts its
    own into torchrun's store, where the others read it. SLURM tells all of them when the job began. Elsewhere it
    is this process's own time; whom Lightning starts, it tells the folder.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return _from_torchrun()
    return float(os.environ.get("SLURM_JOB_START_TIME", time.time()))


def _from_torchrun() -> float:
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=WAIT)
    # The first to come sets the time, also for those that torchrun starts again after a failure.
    return float(store.compare_set("dml/started", "", str(time.time())))


def register() -> None:
    """Make `${started:%H-%M}` known to configurations: like Hydra's `now`, but the same on all processes."""
    OmegaConf.register_new_resolver(
        "started", lambda pattern: datetime.fromtimestamp(started()).strftime(pattern), replace=True
    )


register()

# Beside the package in the repository, inside it when installed.
_PACKAGE = Path(__file__).resolve().parents[1]
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
