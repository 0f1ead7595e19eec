"""Loggers that need more than their constructor: an account, or an optional package."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from dml.errors import UserError


def has_wandb_account() -> bool:
    """Whether Weights & Biases would find a key: in the environment or from `wandb login`."""
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)


def wandb_logger(
    project: str,
    save_dir: str,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    offline: bool | None = None,
    log_model: bool = False,
) -> WandbLogger:
    """A Weights & Biases run of its own, offline where no account is configured.

    Args:
        project, name, group, tags: as W&B shows them.
        save_dir: folder that receives `wandb/`.
        offline: None follows WANDB_MODE, and without it goes online exactly where an account is configured.
        log_model: upload checkpoints; only online.

    Raises:
        UserError: checkpoints cannot be uploaded from an offline run.
    """
    import wandb

    if offline is None:
        mode = os.environ.get("WANDB_MODE")
        offline = mode in {"offline", "dryrun", "disabled"} if mode else not has_wandb_account()
    if offline and log_model:
        raise UserError("logger.wandb.log_model=true needs an online run: `wandb login` first.")
    wandb.finish()  # a second run in one process would otherwise continue the first
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        project=project,
        save_dir=save_dir,
        name=name,
        group=group,
        tags=list(tags),
        offline=offline,
        log_model=log_model,
    )


def tensorboard_logger(save_dir: str) -> TensorBoardLogger:
    """TensorBoard's event files in `save_dir`/tensorboard.

    Raises:
        UserError: the optional package is not installed.
    """
    if find_spec("tensorboard") is None:
        raise UserError("logger=tensorboard needs an optional package: pip install 'dml[tensorboard]'.")
    return TensorBoardLogger(save_dir, name="tensorboard", version="")
