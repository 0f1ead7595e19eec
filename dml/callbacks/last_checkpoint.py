"""A checkpoint to resume from, wherever and however a run stops."""

import logging
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import RunningStage

from dml.checkpoints import LAST, PREVIOUS
from dml.distributed import world_size
from dml.stopping import StopRequests

log = logging.getLogger(__name__)


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` after every validation, every so many steps, at the end, and when asked to stop.

    The one before it stays as `previous.ckpt` until training is complete. Ctrl-C and SIGTERM stop after the step, and
    after the validation if one is due. A step that fails writes nothing: the weights may be what is wrong.

    Args:
        dirpath: folder of the checkpoint.
        every_n_train_steps: steps between two; None leaves it to validations. What SIGKILL can lose.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=Path(LAST).stem,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.interval = every_n_train_steps
        self.requests = StopRequests()
        self.stopping: BaseException | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.requests.listen()

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        # Only now has everything about the last step been logged; it was saved when it ended.
        self._stop(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.stopping = self.stopping or self.requests.agreed(pl_module.device)
        periodic = self.interval is not None and trainer.global_step % self.interval == 0
        if (periodic or self.stopping) and not validation_is_due(trainer):
            self._save_checkpoint(trainer, self.path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.requests.ignore()
        self._save_checkpoint(trainer, self.path)
        if trainer.is_global_zero:
            Path(self.path).with_name(PREVIOUS).unlink(missing_ok=True)
        self._stop(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.requests.ignore()
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        done = getattr(progress, "processed", None)
        between_steps = trainer.state.stage == RunningStage.TRAINING and progress.ready == done
        if isinstance(exception, KeyboardInterrupt) and between_steps and world_size() == 1:
            self._save_checkpoint(trainer, self.path)

    def _stop(self, trainer: pl.Trainer) -> None:
        if self.stopping is not None:
            if trainer.is_global_zero:
                log.info(
                    f"Stopped at step {trainer.global_step}. The same command with resume=auto and the same "
                    f"run folder, or with ckpt_path='{self.path}', goes on."
                )
            raise self.stopping

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        if trainer.is_global_zero and Path(filepath).exists():
            os.replace(filepath, Path(filepath).with_name(PREVIOUS))
        super()._save_checkpoint(trainer, filepath)

    @property
    def path(self) -> str:
        """The checkpoint's file."""
        return self.format_checkpoint_name({})

    @property
    def state_key(self) -> str:
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore: the file's name never changes."""


def validation_is_due(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the step just made."""
    interval = trainer.val_check_batch
    return bool(trainer.enable_validation and interval and trainer.global_step % interval == 0)
