"""A training run: build, fit, test, report."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning_utilities.core.rank_zero import rank_zero_warn
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything

from dml.analysis.baselines import baselines
from dml.callbacks.checkpoint import BestCheckpoint
from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.config.build import build_data, build_model, build_module, build_trainer, try_out
from dml.config.check import check_config
from dml.data.datamodule import EmbeddingDataModule
from dml.data.split import describe, fingerprint
from dml.distributed import is_first_process
from dml.errors import Note, UserError
from dml.module import EmbeddingModule
from dml.reporting.data import report
from dml.runs.checkpoints import checkpoint_to_resume, load_weights, outdated, read_checkpoint, take_best
from dml.runs.embeddings import write_embeddings
from dml.runs.failures import machine_failures
from dml.runs.folder import OF_A_TEST, is_inside, set_aside
from dml.runs.guard import check_unused
from dml.runs.loggers import keep_metrics
from dml.runs.report import PROTOCOLS, print_figures, write_metrics
from dml.runs.results import test_figures, write_results
from dml.runs.settings import NewSettings, check_settings
from dml.runs.trial import run_apart, trial


@machine_failures()
def train(config: DictConfig) -> dict[str, Any]:
    """Compose, fit, test, report, write `metrics.json`, draw; returns what is in the file."""
    started = time.monotonic()
    resumed = begin(config)
    check_config(config)
    try_out(config)
    seed_everything(config.seed, workers=True, verbose=False)
    embedder = build_model(config.model)
    data = build_data(config)
    if is_first_process():
        print(describe(config.dataset.name, data.loaded_split))
    module = build_module(config, data.num_classes, embedder)
    trainer = build_trainer(config)
    # `check_config` saw to it that there is one.
    best = next(c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint))
    if resumed is not None:
        resume(config, resumed, data, module, trainer)

    retrieval = retrieval_metrics_of(trainer)
    floors = {}
    if config.baselines and config.test:
        floors = baselines(module.embedder, data, retrieval.ks, retrieval.metrics)
    trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    if best.best_model_score is None:
        raise UserError(
            f"Training ended at step {trainer.global_step}, before any validation, so there is no best checkpoint to "
            "test: give more of trainer.max_time, max_epochs or limit_train_batches, or a smaller "
            "trainer.val_check_interval."
        )
    if config.test:
        trainer.test(
            module, datamodule=data, ckpt_path=best.best_model_path, verbose=False, weights_only=True
        )
    stage, _, metric = str(best.monitor).rpartition("/")
    chosen = PROTOCOLS[config.protocol]
    figures = {
        **(test_figures(trainer, floors) if config.test else {}),
        f"{stage}/best_{metric}": float(best.best_model_score),
        "checkpoint": os.path.relpath(best.best_model_path, os.path.realpath(config.run_dir)),
        "steps": trainer.global_step,
        "seed": config.seed,
        "dataset": config.dataset.name,
        "fingerprint": fingerprint(data.loaded_split),
        **data.skipped_figures(),
        "protocol": f"{config.protocol}: {chosen if config.test else chosen.partition(';')[0] + '; not tested'}",
    }
    if trainer.is_global_zero and not config.test:
        write_metrics(Path(config.run_dir), figures)
        print(f"{config.dataset.name}: {best.monitor} {float(best.best_model_score):.4f}, not tested")
    elif trainer.is_global_zero:
        write_results(trainer, Path(config.run_dir), figures)
        print_figures(f"{config.dataset.name}: {chosen}", figures, "trained")
        if config.embeddings:
            write_embeddings(Path(config.run_dir), data, retrieval.embeddings.cpu(), config.seed)
        if config.report:
            report(Path(config.run_dir), trainer, config, time.monotonic() - started, module.loss)
    return figures


def begin(config: DictConfig) -> Path | None:
    """The checkpoint that the run resumes, if any; other files of earlier runs in its folder are set aside."""
    folder = Path(config.run_dir)
    if is_first_process():
        check_unused(folder, config)
    resumed = checkpoint_to_resume(config.ckpt_path, config.resume, folder)
    if is_first_process():
        set_aside(folder, outdated(folder, resumed))
    return resumed


def resume(
    config: DictConfig, path: Path, data: EmbeddingDataModule, module: EmbeddingModule, trainer: pl.Trainer
) -> None:
    """Prepare module, trainer and folder to resume from a checkpoint; names the settings that are not those of before.

    Raises:
        UserError: the checkpoint is of another model, or of settings that cannot be changed.
    """
    checkpoint, folder = read_checkpoint(path), Path(config.run_dir)
    changed = check_settings(checkpoint, config, fingerprint(data.loaded_split), path)
    load_weights(module, checkpoint["state_dict"], path)
    if changed:
        step = checkpoint["global_step"]
        rank_zero_warn(f"Resuming at step {step} with other settings: {', '.join(changed)}.", category=Note)
        trainer.callbacks.append(NewSettings())  # type: ignore[attr-defined]
    if is_first_process() and is_inside(path, folder):
        keep_metrics(folder, before=checkpoint["global_step"])
    elif is_first_process():
        take_best(path, folder)


def finished_trial(config: DictConfig) -> dict[str, Any] | None:
    """The figures of a sweep's trial that is done; None where it is to be run or resumed.

    With `resume=auto`, a sweep that is started again skips the trials that it finished with the same configuration.

    Raises:
        UserError: the trial's folder holds another trial: a resumed one would report the other's network.
    """
    folder = Path(config.run_dir)
    if HydraConfig.get().mode != RunMode.MULTIRUN or config.resume is None:
        return None
    try:
        last = checkpoint_to_resume(None, config.resume, folder)
        if last is None:
            return None
        checkpoint = read_checkpoint(last)
        if changed := check_settings(checkpoint, config, checkpoint["fingerprint"], last):
            raise UserError(
                f"{folder} holds a trial with other settings, {', '.join(changed)}: resume a sweep by the same "
                "command, or give another hydra.sweep.dir."
            )
    except UserError:
        set_aside(folder, OF_A_TEST)  # the other trial's, which the note of this failure would replace
        raise
    file, same = folder / "metrics.json", {"ckpt_path": None, "resume": None, "overwrite": None}
    unchanged = checkpoint["config"] | same == OmegaConf.to_container(config) | same  # type: ignore[operator]
    tested = not config.test or (folder / "queries.csv").is_file()
    if not (unchanged and tested and file.is_file()):
        return None
    figures: dict[str, Any] = json.loads(file.read_text())
    if "error" in figures:
        return None
    if is_first_process():
        print(f"{folder} is finished: skipped.")
    return figures


def run(config: DictConfig) -> float | None:
    """One run, or one trial of a sweep; returns the validation value of its best checkpoint, None if it failed."""
    folder, figures = Path(config.run_dir), {}
    with trial(config) as apart:
        if done := finished_trial(config):
            figures = done
        elif apart:
            begin(config)  # figures of before are not to be taken for this trial's
            run_apart("dml.train", list(HydraConfig.get().overrides.task), folder)
            figures = json.loads((folder / "metrics.json").read_text())
        else:
            figures = train(config)
    return next((value for name, value in figures.items() if name.startswith("val/best_")), None)
