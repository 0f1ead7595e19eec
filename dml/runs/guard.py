"""One command at a time in a folder, and none over the results of another."""

import fcntl
import os
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TextIO

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from dml.config.check import valid
from dml.errors import UserError, unusable
from dml.runs.folder import OF_A_TEST, is_inside

RESULTS = (
    *OF_A_TEST,
    "metrics.csv",
    "checkpoints/*.ckpt",
    "tensorboard",
    "weights.png",
    "weights.csv",
    "similarities.csv",
    "sweep.csv",
    "model.onnx",
    "model.pt2",
)
# One of them above 0: not a run's first process. Lightning's own rank would need torch.
RANKS = ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID")


class FolderGuard(Callback):
    """Hydra's callback that locks and checks the folder, that of a key, before Hydra writes to it."""

    def __init__(self, key: str = "hydra.run.dir") -> None:
        self.key = key

    def __getstate__(self) -> dict[str, Any]:
        """Launchers send callbacks to the processes of trials; the lock stays with the sweep."""
        return {"key": self.key}

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._enter(config, self.key, "")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._enter(config, "hydra.sweep.dir", "**/")

    def _enter(self, config: DictConfig, key: str, depth: str) -> None:
        if any(os.environ.get(rank, "0") != "0" for rank in RANKS):
            return
        folder = None
        try:
            folder = Path(OmegaConf.select(config, key))
            self.held = lock(folder, key)
            check_unused(folder, config, key, depth)
        except UserError as error:
            sys.exit(f"Error: {error}")  # Hydra would turn any other exception into a warning
        except Exception as error:
            cause: BaseException | None = error  # of an interpolation, what its resolver met
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__cause__ or cause.__context__
            if isinstance(cause, OSError) and (refused := unusable(cause, folder)):
                sys.exit(f"Error: {key}: {refused}")
            raise


def lock(folder: Path, key: str) -> TextIO:
    """Lock a folder, created if need be, until the returned file is closed or the process ends, however it ends.

    Raises:
        OSError: the folder cannot be written.
        UserError: another process holds it; `key` is how the folder was given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as trial:
        trial.write(bytes(65_536))  # about what Hydra is going to write
    file = (folder / ".lock").open("w")
    try:
        # Unlike flock's, this lock is not inherited by data workers, which may outlive a killed run by seconds.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise UserError(
            f"{key}={folder} is in use by another process: wait for its end, or give another folder."
        ) from None
    except OSError:
        pass  # a file system without locks
    return file


def check_unused(folder: Path, config: DictConfig, key: str = "hydra.run.dir", depth: str = "") -> None:
    """Raise UserError if a folder holds earlier results, unless `overwrite` is set or a training resumes in it.

    With a depth of "**/" the folders below are looked into as well; the key is named in the message.
    """
    if valid(config.overwrite, bool, "overwrite") or _resumes(folder, config):
        return
    found = [str(file.relative_to(folder)) for name in RESULTS for file in sorted(folder.glob(depth + name))]
    if found:
        more = f" and {len(found) - 1} more results" if len(found) > 1 else ""
        instead = "resume=auto to resume it, " if "resume" in config else ""
        raise UserError(
            f"{key}={folder} holds {found[0]}{more} of an earlier run: give another folder, {instead}or overwrite=true "
            "to move them to its older/."
        )


def _resumes(folder: Path, config: DictConfig) -> bool:
    """Whether a training is to resume in its own folder, or may."""
    if "resume" not in config or config.ckpt_path is None:
        return config.get("resume") is not None
    return config.ckpt_path == "last" or is_inside(Path(config.ckpt_path), folder)
