"""Checkpoints that are whole or not there, and what can be read from one."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from dml.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        unfinished = f"{path}.part"
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        os.replace(unfinished, path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU, without running any code from it.

    Raises:
        UserError: the file is missing, is no checkpoint, or was not written by this package.
    """
    if not Path(path).is_file():
        raise UserError(f"ckpt_path={path}: there is no such file; runs keep theirs in checkpoints/.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"ckpt_path={path}: not a readable checkpoint ({reason}).") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "config"} <= checkpoint.keys():
        raise UserError(f"ckpt_path={path}: not a checkpoint written by dml.train.")
    return checkpoint


def run_config(checkpoint: dict[str, Any]) -> DictConfig:
    """The configuration of the run that wrote the checkpoint, its interpolations still open to change."""
    return OmegaConf.create(checkpoint["config"])


def load_learner(learner: nn.Module, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Put the checkpoint's weights into the learner.

    Raises:
        UserError: the checkpoint is of another architecture; names what does not fit.
    """
    own, found = learner.state_dict(), checkpoint["state_dict"]
    astray = sorted(own.keys() ^ found.keys())
    astray += [key for key in own.keys() & found.keys() if own[key].shape != found[key].shape]
    if astray:
        raise UserError(
            f"ckpt_path={path}: {len(astray)} tensors do not fit this model and loss, first {astray[0]}; "
            "give the model=… and loss=… of the run that wrote it."
        )
    learner.load_state_dict(found)
