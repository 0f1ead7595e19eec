"""Checkpoints that are whole or not there, and what can be read from one."""

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from dml.errors import UserError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        unfinished = f"{path}.part"
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        with open(unfinished, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(unfinished, path)


def checkpoint_to_resume(ckpt_path: str | None, resume: str | None, run_dir: str | Path) -> Path | None:
    """The checkpoint that a run goes on from; None begins anew.

    Args:
        ckpt_path: a file; or "last", the newest checkpoint in `run_dir` that can be read, of which there must be one.
        resume: "auto" is "last" where there is one and a new beginning where there is none.
        run_dir: the run's folder.

    Raises:
        UserError: there is none to go on from, or none that can be read.
    """
    if resume not in (None, "auto"):
        raise UserError(f"resume={resume} must be auto or null.")
    if ckpt_path not in (None, "last"):
        return Path(str(ckpt_path))
    if ckpt_path is None and resume is None:
        return None
    folder = Path(run_dir) / "checkpoints"
    found = [folder / name for name in (LAST, PREVIOUS) if (folder / name).is_file()]
    if not found and ckpt_path is None:
        return None
    if not found:
        raise UserError(
            f"ckpt_path=last: {folder} holds no {LAST}; give the folder of the run with hydra.run.dir=…"
        )
    return newest_readable(found)


def newest_readable(paths: list[Path]) -> Path:
    """The first of these checkpoints, newest first, that is whole; says so if it is not the first.

    Raises:
        UserError: none is; the message is that of the first.
    """
    errors: list[UserError] = []
    for path in paths:
        try:
            read_checkpoint(path)
        except UserError as error:
            errors.append(error)
        else:
            if errors:
                rank_zero_warn(f"{errors[0]} Going on from the one before it, {path}.")
            return path
    raise errors[0]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU, without running any code from it.

    Raises:
        UserError: the file is missing, is no checkpoint, or was not written by this package.
    """
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
    return checkpoint


def check_sums(path: str | Path) -> None:
    """Hold a checkpoint's content against its own checksums, which torch writes but does not read.

    Raises:
        zipfile.BadZipFile: the file is no archive, or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"damaged at {damaged}")


def load_weights(learner: nn.Module, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Put the checkpoint's weights into the learner.

    Raises:
        UserError: the checkpoint is of another architecture; names what does not fit.
    """
    found = checkpoint["state_dict"]
    if astray := misfits(learner, found):
        raise UserError(
            f"ckpt_path={path}: {len(astray)} tensors do not fit this model and loss, first {astray[0]}; "
            "give the model=… and loss=… of the run that wrote it."
        )
    learner.load_state_dict(found)


def load_embedder(embedder: nn.Module, weights: Mapping[str, Any], path: str | Path) -> None:
    """Put a checkpoint's weights into the network that its own configuration describes.

    Raises:
        UserError: they are of another architecture; names what does not fit.
    """
    if astray := misfits(embedder, weights):
        raise UserError(
            f"ckpt_path={path}: {len(astray)} tensors do not fit the model in its configuration, first {astray[0]}; "
            "use the version of the code that wrote it."
        )
    embedder.load_state_dict(weights)


def misfits(network: nn.Module, weights: Mapping[str, Any]) -> list[str]:
    """The names of tensors that only one of the two has, or of another shape."""
    own = network.state_dict()
    shapes = [key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape]
    return sorted(own.keys() ^ weights.keys()) + sorted(shapes)
