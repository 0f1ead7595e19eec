"""Checkpoints: written whole or not at all; which one to resume, and what of an earlier run is still valid."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from dml.errors import UserError
from dml.runs.failures import whole_file
from dml.runs.folder import OF_A_TEST, is_inside

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, reads it back, and moves it there when it is whole.

    The `last.ckpt` that a new one replaces stays as `previous.ckpt`. It is known to be whole: this process wrote it
    or resumed from it; see `outdated`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        with whole_file(path) as part:
            super().save_checkpoint(checkpoint, part, storage_options)
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            check_sums(part)
            if Path(path).name == LAST and Path(path).is_file():
                os.replace(path, Path(path).with_name(PREVIOUS))


def checkpoint_to_resume(ckpt_path: str | None, resume: str | None, run_dir: str | Path) -> Path | None:
    """The checkpoint that a run resumes; None starts a new run.

    Args:
        ckpt_path: a file; or "last", the newest checkpoint in `run_dir` that can be read, of which there must be one.
        resume: "auto" is "last" where there is one and a new run where there is none.
        run_dir: the run's folder.

    Raises:
        UserError: there is no checkpoint to resume, or none that can be read.
    """
    if ckpt_path not in (None, "last"):
        return Path(str(ckpt_path))
    if ckpt_path is None and resume is None:
        return None
    folder = Path(run_dir, "checkpoints")
    found = [folder / name for name in (LAST, PREVIOUS) if (folder / name).is_file()]
    if not found and ckpt_path == "last":
        raise UserError(
            f"ckpt_path=last: {folder} holds no {LAST}; give the folder of the run with hydra.run.dir=…"
        )
    for path in found:
        try:
            read_checkpoint(path)
            return path
        except UserError as error:
            if path == found[-1]:
                raise
            rank_zero_warn(f"{error} Resuming from the one before it, {found[-1]}.")
    return None


def outdated(folder: Path, resumed: Path | None) -> list[str]:
    """Files of an earlier run in a run's folder, as paths within it, that are not part of this run.

    A run that resumes in its folder keeps its logs and the checkpoints up to its step. Damaged and later
    checkpoints belong to a branch that ends here.
    """
    checkpoints = [f"checkpoints/{name}" for name in (BEST, LAST, PREVIOUS)]
    if resumed is None or not is_inside(resumed, folder):
        return [*OF_A_TEST, "metrics.csv", "tensorboard", "wandb_id", *checkpoints]
    step = read_checkpoint(resumed)["global_step"]
    later = [name for name in checkpoints if (s := step_of(folder / name)) is None or s > step]
    return [*OF_A_TEST, *later]


def step_of(path: Path) -> int | None:
    """The step at which a checkpoint was written; None if it cannot be read."""
    try:
        return int(read_checkpoint(path)["global_step"])
    except UserError:
        return None


def take_best(resumed: Path, folder: Path) -> None:
    """Copy the best checkpoint beside the resumed one to the run's own folder, unless damaged or of a later step."""
    best, target = resumed.with_name(BEST), folder / "checkpoints" / BEST
    step = step_of(best)
    if step is not None and step <= read_checkpoint(resumed)["global_step"]:
        with whole_file(target) as part:
            shutil.copyfile(best, part)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content, on the CPU, of a checkpoint written by this package, without running any code from it."""
    if not Path(path).is_file():
        raise UserError(f"ckpt_path={path}: there is no such file; runs keep theirs in checkpoints/.")
    try:
        check_sums(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"ckpt_path={path}: not a readable checkpoint ({reason}).") from error
    if not isinstance(checkpoint, dict) or not all(
        isinstance(checkpoint.get(key), dict) for key in ("state_dict", "config")
    ):
        raise UserError(f"ckpt_path={path}: not a checkpoint written by dml.train.")
    if not all(isinstance(value, torch.Tensor) for value in checkpoint["state_dict"].values()):
        raise UserError(f"ckpt_path={path}: not a checkpoint written by dml.train (a weight is no tensor).")
    return checkpoint


def check_sums(path: str | Path) -> None:
    """Raise BadZipFile unless a file agrees with its own checksums, which torch writes but does not read."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"damaged at {damaged}")


def load_weights(module: nn.Module, weights: Mapping[str, Any], path: str | Path) -> None:
    """Load a checkpoint's weights; a UserError names what does not fit."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        misfits = shorten(str(error).partition("\n")[2], 200, placeholder=" …")
        raise UserError(
            f"ckpt_path={path} does not fit this model and loss: {misfits} It was written with another model=…, "
            "loss=… or version of dml."
        ) from error
