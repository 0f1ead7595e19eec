"""The best and the last checkpoint of a run, wherever and however it stops."""

import logging
import os
import signal
import stat
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.exceptions import SIGTERMException

from dml.data.datamodule import data_of
from dml.data.split import fingerprint
from dml.distributed import is_first_process, world_size
from dml.errors import UserError, note
from dml.runs.checkpoints import BEST, LAST, PREVIOUS, read_checkpoint

log = logging.getLogger(__name__)  # of Lightning's own loggers only warnings are shown


def leave_terminal() -> None:
    """Write to nothing in place of a terminal that was closed, where each write would fail."""
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


class StopRequests:
    """Defers Ctrl-C, SIGTERM and SIGHUP to the end of the step; a second Ctrl-C stops at once.

    A signal may reach one process only, and each at another moment. `agreed` makes one decision of it.
    """

    def __init__(self) -> None:
        self.received = 0
        self.handlers: list[tuple[int, Any]] = []

    def listen(self) -> None:
        """Take over the signals until `ignore`."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # nohup
                self.handlers.append((number, signal.signal(number, self._note)))

    def ignore(self) -> None:
        """Restore the handlers of before."""
        while self.handlers:
            signal.signal(*self.handlers.pop())

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if number == signal.SIGHUP:
            leave_terminal()
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
        return KeyboardInterrupt() if received == signal.SIGINT else SIGTERMException(128 + received)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the best validation as `best.ckpt`, and writes the data's fingerprint into all.

    There is one best checkpoint. Its score is in its own file and nowhere else, so that a run whose folder was moved
    or copied resumes with it, without any path.

    Args:
        dirpath: folder of the checkpoint.
        monitor: a logged metric.
        mode: "max" or "min", which of its values is best.
    """

    def __init__(self, dirpath: str, monitor: str, mode: str = "max") -> None:
        super().__init__(
            dirpath=dirpath,
            filename=Path(BEST).stem,
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Callbacks that keep checkpoints come last, so everything has been logged.

        Raises:
            UserError: nothing logs what this callback, or one like `EarlyStopping`, watches.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None)
            if monitor is not None and monitor not in trainer.callback_metrics:
                raise UserError(
                    f"{type(callback).__name__} watches {monitor}, which nothing logs; logged are "
                    f"{', '.join(sorted(trainer.callback_metrics))}."
                )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["fingerprint"] = fingerprint(data_of(trainer).loaded_split)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Resume with the best checkpoint of before, if the run's folder holds it."""
        path = self.format_checkpoint_name({})
        score = self._score_in(read_checkpoint(path)) if Path(path).is_file() else None
        if score is not None:
            self.best_model_path = self.kth_best_model_path = path
            self.best_model_score = self.kth_value = score
            self.best_k_models = {path: score}
        elif self._score_in(checkpoint) is not None:
            note(
                f"There is no {BEST} of before in {self.dirpath} or beside the resumed checkpoint: the best "
                "checkpoint is chosen from here on."
            )

    def _score_in(self, checkpoint: dict[str, Any]) -> torch.Tensor | None:
        """The best value of the monitored metric; None if it was another metric, or not yet known."""
        states = checkpoint["callbacks"].values()
        return next((s["best_model_score"] for s in states if s.get("monitor") == self.monitor), None)

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Done by `on_load_checkpoint`."""


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` after every validation, every so many steps, at the end, and when asked to stop.

    The one before it stays as `previous.ckpt` until training is complete. Ctrl-C, SIGTERM and SIGHUP stop after the
    step, and after the validation if one is due. A step that fails writes nothing: the weights may be the cause.

    Args:
        dirpath: folder of the checkpoint.
        every_n_train_steps: steps between two; None leaves it to validations. SIGKILL loses at most these.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int | None = None) -> None:
        self.path, self.interval = Path(dirpath, LAST), every_n_train_steps
        self.requests = StopRequests()
        self.stopping: BaseException | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.requests.listen()

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        # All logs of the last step, which was saved when it ended, are written only now.
        self._stop(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.stopping = self.stopping or self.requests.agreed(pl_module.device)
        step, validation = trainer.global_step, trainer.val_check_batch
        periodic = self.interval is not None and step % self.interval == 0
        validation_is_due = trainer.enable_validation and validation and step % validation == 0
        if (periodic or self.stopping) and not validation_is_due:
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.requests.ignore()
        trainer.save_checkpoint(self.path)
        if trainer.is_global_zero:
            self.path.with_name(PREVIOUS).unlink(missing_ok=True)
        self._stop(trainer)

    def on_exception(self, *args: Any) -> None:
        self.requests.ignore()

    def _stop(self, trainer: pl.Trainer) -> None:
        if self.stopping is not None:
            if trainer.is_global_zero:
                log.info(
                    f"Stopped at step {trainer.global_step}. To resume, give the same command with resume=auto and the "
                    f"same run folder, or with ckpt_path='{self.path}'."
                )
            raise self.stopping
