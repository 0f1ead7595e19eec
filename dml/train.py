"""Train an embedding and judge it on classes it has never seen: `python -m dml.train dataset=cars loss=ms`."""

import logging
import os
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning import seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint

from dml.analysis.baselines import baselines
from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.config.build import build_data, build_module, build_trainer
from dml.config.cli import CONF, one_sentence
from dml.config.keys import check_keys
from dml.config.values import check_values
from dml.data.split import describe, fingerprint
from dml.distributed import is_first_process
from dml.module import EmbeddingModule
from dml.runs.checkpoints import checkpoint_to_resume, load_weights, read_checkpoint
from dml.runs.loggers import keep_metrics
from dml.runs.report import PROTOCOLS, print_table, without_prefix, write_metrics
from dml.runs.trial import on_several_devices, run_apart

log = logging.getLogger(__name__)


def train(config: DictConfig) -> dict[str, Any]:
    """Compose, fit, test, report; returns what `metrics.json` holds."""
    check_keys(config)
    check_values(config)
    seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config)
    if is_first_process():
        print(describe(config.dataset.name, data.loaded_split))
    learner = build_module(config, data.num_classes)
    trainer = build_trainer(config)
    resumed = go_on(config, learner)

    columns = {}
    if config.baselines:
        metrics = retrieval_metrics_of(trainer)
        columns = baselines(learner.embedder, data, metrics.ks, metrics.metrics)
    trainer.fit(learner, datamodule=data, ckpt_path=resumed, weights_only=True)
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
        "checkpoint": os.path.relpath(best.best_model_path, os.path.realpath(config.run_dir)),
        "steps": trainer.global_step,
        "seed": config.seed,
        "dataset": config.dataset.name,
        "fingerprint": fingerprint(data.loaded_split),
        "protocol": f"{config.protocol}: {PROTOCOLS[config.protocol]}",
    }


def go_on(config: DictConfig, learner: EmbeddingModule) -> Path | None:
    """The checkpoint that the run goes on from, its weights already in the learner; None begins anew."""
    folder = Path(config.run_dir)
    path = checkpoint_to_resume(config.ckpt_path, config.resume, folder)
    step = 0
    if path is not None:
        checkpoint = read_checkpoint(path)
        load_weights(learner, checkpoint, path)
        if path.resolve().parent == (folder / "checkpoints").resolve():
            step = checkpoint["global_step"]
    if is_first_process():
        keep_metrics(folder, before=step)
    return path


def best_checkpoint(trainer: pl.Trainer) -> ModelCheckpoint:
    """The callback that keeps the checkpoint with the best validation."""
    return next(c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor)


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
@one_sentence
def main(config: DictConfig) -> None:
    """One run, or one trial of a sweep: a trial that fails is put down as failed and the sweep goes on."""
    folder = Path(config.run_dir)
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    if in_sweep and on_several_devices(config):
        run_apart(list(HydraConfig.get().overrides.task), folder)
        return
    try:
        figures = train(config)
    except Exception as error:
        if not in_sweep:
            raise
        log.exception("This trial failed; the sweep goes on.")
        figures = {"error": f"{type(error).__name__}: {error}"}
    if is_first_process():
        write_metrics(folder, figures)
        print(folder)


if __name__ == "__main__":
    main()
