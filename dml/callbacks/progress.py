"""The progress bar."""

import sys
import time
from typing import Any

from pytorch_lightning.callbacks import TQDMProgressBar


class TrainingBar(TQDMProgressBar):
    """Lightning's bar, whose time left counts training alone, and whose validation is drawn at every batch."""

    def on_validation_start(self, *args: Any) -> None:
        super().on_validation_start(*args)
        self.began = time.time()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Batches of a validation are large and few: each moves the bar, whatever the refresh rate."""
        self.val_progress_bar.update()
        if self.val_progress_bar.n == self.val_progress_bar.total:
            self.val_progress_bar.set_description("Validation: metrics")

    def on_validation_end(self, *args: Any) -> None:
        super().on_validation_end(*args)
        bar = self._train_progress_bar
        if bar is not None and not bar.disable:
            bar.start_t += time.time() - self.began


def progress_bar(refresh_rate: int = 10) -> TrainingBar:
    """The bar, redrawn every `refresh_rate` steps on a terminal; none where the output goes to a file."""
    return TrainingBar(refresh_rate if sys.stdout.isatty() else 0)
