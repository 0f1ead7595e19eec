"""A checkpoint to resume from, wherever and however a run stops."""

import logging
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import RunningStage
from pytorch_lightning.utilities.exceptions import SIGTERMException

from dml.distributed import is_first_process, world_size
from dml.runs.checkpoints import LAST, PREVIOUS

CODE_OF_SIGTERM = 143

log = logging.getLogger(__name__)  # of Lightning's own loggers only warnings are shown


class StopRequests:
    """Notes Ctrl-C and SIGTERM instead of being torn out of a step; a second Ctrl-C stops at once.

    A signal may reach one process only, and each at another moment. `agreed` makes one decision of it.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Take over the signals until `ignore`."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {
                number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
            }

    def ignore(self) -> None:
        """Hand the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if is_first_process():
            log.info(f"{signal.Signals(number).name}: stopping after this step and a validation that is due.")

    def agreed(self, device: torch.device) -> BaseException | None:
        """What to stop with if any process was asked to; every process must call, after the same step."""
        received = self.received
        if world_size() > 1:
            flag = torch.tensor(received, device=device)
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
            received = int(flag)
        if not received:
            return None
        return KeyboardInterrupt() if received == signal.SIGINT else SIGTERMException(CODE_OF_SIGTERM)


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
