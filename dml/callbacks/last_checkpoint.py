"""A checkpoint to resume from, also after Ctrl-C."""

from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` after every validation, at the end of training, and when a person or a scheduler stops it.

    Any other error leaves the last good checkpoint as it was: the weights may be what is wrong.

    Args:
        dirpath: folder of the checkpoint.
    """

    def __init__(self, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath, filename="last", save_on_train_epoch_end=False, enable_version_counter=False
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, (KeyboardInterrupt, SIGTERMException)):
            path = self._save(trainer)
            rank_zero_info(
                f"Stopped at step {trainer.global_step}. The same command with ckpt_path='{path}' goes on."
            )

    def _save(self, trainer: pl.Trainer) -> str:
        path = self.format_checkpoint_name({})
        trainer.save_checkpoint(path)
        return path

    @property
    def state_key(self) -> str:
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore: the file's name never changes."""
