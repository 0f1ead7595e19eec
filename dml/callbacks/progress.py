"""One progress bar for the whole of training, in steps."""

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm


class StepProgressBar(ProgressBar):
    """A bar over `max_steps` that shows the loss and the latest Recall@1; evaluation moves it no further.

    Where output is not a terminal the bar is printed anew every ten seconds instead of on one line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: tqdm | None = None
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.enabled:  # on every process but the first
            return
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            desc="training",
            total=trainer.max_steps if trainer.max_steps > 0 else None,
            initial=trainer.global_step,
            unit="step",
            dynamic_ncols=terminal,
            mininterval=0.1 if terminal else 10,
        )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if self.bar is not None:
            self.bar.update(trainer.global_step - self.bar.n)
            if self.bar.n == trainer.max_steps or self.bar.last_print_n == self.bar.n:
                self._show(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _show(self, trainer: pl.Trainer) -> None:
        if self.bar is not None:
            metrics = trainer.progress_bar_metrics
            shown = {name.split("/")[-1]: f"{float(value):.3f}" for name, value in metrics.items()}
            self.bar.set_postfix(shown, refresh=False)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
