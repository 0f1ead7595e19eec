"""The moment at which a run started, the same on all of its processes, from which its folder has its name."""

import os
import time
from datetime import datetime, timedelta
from functools import cache

from omegaconf import OmegaConf

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
