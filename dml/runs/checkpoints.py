"""Checkpoints that are whole or not there, and what can be read from one."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from dml.errors import UserError

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, reads it back, and moves it there when it is whole.

    The `last.ckpt` that a new one replaces stays as `previous.ckpt`. It is known to be whole: this process wrote it,
    or went on from it; see `outdated`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        unfinished = f"{path}.part"
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        with open(unfinished, "rb") as stream:
            os.fsync(stream.fileno())
        check_sums(unfinished)
        if Path(path).name == LAST and Path(path).is_file():
            os.replace(path, Path(path).with_name(PREVIOUS))
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


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a checkpoint is one of a run's own, so that going on from it goes on in the run's folder."""
    return path.resolve().parent == (folder / "checkpoints").resolve()


def outdated(folder: Path, resumed: Path | None) -> list[str]:
    """What a run's folder holds of an earlier run, as paths within it; a run that begins sets it aside.

    A run that goes on in its folder keeps what was logged and the checkpoints up to its step. A later or damaged one
    is of a branch that ends here.

    Args:
        folder: of the run.
        resumed: the checkpoint that the run goes on from, if it does.
    """
    checkpoints = [f"checkpoints/{name}" for name in (BEST, LAST, PREVIOUS)]
    if resumed is None or not is_inside(resumed, folder):
        return ["metrics.json", "retrievals.png", "metrics.csv", "tensorboard", *checkpoints]
    step = read_checkpoint(resumed)["global_step"]
    later = [name for name in checkpoints if (s := step_of(folder / name)) is None or s > step]
    return ["metrics.json", "retrievals.png", *later]


def step_of(path: Path) -> int | None:
    """The step at which a checkpoint was written; None if it cannot be read."""
    try:
        return int(read_checkpoint(path)["global_step"])
    except UserError:
        return None


def take_best(resumed: Path, folder: Path) -> None:
    """Copy the best checkpoint that lies beside the one that a run goes on from to the run's own folder.

    One that is damaged or of a later step is left where it is.
    """
    best, target = resumed.with_name(BEST), folder / "checkpoints" / BEST
    step = step_of(best)
    if step is not None and step <= read_checkpoint(resumed)["global_step"]:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, f"{target}.part")
        os.replace(f"{target}.part", target)


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
    if not all(isinstance(value, torch.Tensor) for value in checkpoint["state_dict"].values()):
        raise UserError(f"ckpt_path={path}: not a checkpoint written by dml.train (a weight is no tensor).")
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


def run_config(checkpoint: dict[str, Any]) -> DictConfig:
    """The configuration of the run that wrote the checkpoint, to compare; what is built comes from `read_run`."""
    return OmegaConf.create(checkpoint["config"])


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
