"""Train an embedding and judge it on classes it has never seen: `python -m dml.train dataset=cars loss=ms`."""

import logging
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning import seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint

from dml.baselines import baselines
from dml.build import build_data, build_learner, build_trainer
from dml.checkpoints import load_learner, read_checkpoint
from dml.command import CONF, one_sentence
from dml.data.fingerprint import fingerprint
from dml.report import PROTOCOLS, print_table, without_prefix, write_metrics

log = logging.getLogger(__name__)


def train(config: DictConfig) -> dict[str, Any]:
    """Compose, fit, test, report; returns what `metrics.json` holds."""
    seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config)
    learner = build_learner(config, data.num_classes)
    trainer = build_trainer(config)
    if config.ckpt_path is not None:
        load_learner(learner, read_checkpoint(config.ckpt_path), config.ckpt_path)

    columns = baselines(learner.embedder, data, config.dataset.recall_at) if config.baselines else {}
    trainer.fit(learner, datamodule=data, ckpt_path=config.ckpt_path, weights_only=True)
    best = best_checkpoint(trainer)
    assert best.best_model_score is not None  # a run validates at least once: see build_trainer
    trainer.test(learner, datamodule=data, ckpt_path=best.best_model_path, verbose=False, weights_only=True)

    test = {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")
    }
    columns["trained"] = without_prefix(test, "test")
    if trainer.is_global_zero:
        print_table(f"{config.dataset.name}: {PROTOCOLS[config.protocol]}", columns)
    return test | {
        "baselines": {name: column for name, column in columns.items() if name != "trained"},
        f"val/best_recall_at_{config.dataset.recall_at[0]}": float(best.best_model_score),
        "checkpoint": str(Path(best.best_model_path).relative_to(config.run_dir)),
        "steps": trainer.global_step,
        "seed": config.seed,
        "dataset": config.dataset.name,
        "fingerprint": fingerprint(data.loaded_split),
        "protocol": f"{config.protocol}: {PROTOCOLS[config.protocol]}",
    }


def best_checkpoint(trainer: pl.Trainer) -> ModelCheckpoint:
    """The callback that keeps the checkpoint with the best validation."""
    return next(c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor)


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
@one_sentence
def main(config: DictConfig) -> None:
    """One run, or one trial of a sweep: a trial that fails is put down as failed and the sweep goes on."""
    folder = Path(config.run_dir)
    try:
        figures = train(config)
    except Exception as error:
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            raise
        log.exception("This trial failed; the sweep goes on.")
        figures = {"error": f"{type(error).__name__}: {error}"}
    write_metrics(folder, figures)
    print(folder)


if __name__ == "__main__":
    main()
