"""Evaluation of a checkpoint, from the checkpoint alone."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning import seed_everything
from torch import Tensor, nn

from dml.analysis.baselines import RawPixels, test_metrics
from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.config.build import build, build_data
from dml.config.check import check
from dml.config.evaluation import check_evaluation
from dml.config.limits import check_limits
from dml.data.split import Split, describe, fingerprint
from dml.distributed import is_first_process
from dml.errors import UserError, note
from dml.module import EvaluationModule
from dml.reporting.data import report
from dml.retrieval.audit import audit
from dml.runs.checkpoints import load_weights
from dml.runs.embeddings import write_embeddings
from dml.runs.folder import OF_A_TEST, set_aside
from dml.runs.report import print_audit, print_figures
from dml.runs.results import test_figures, write_results
from dml.runs.subject import subject
from dml.runs.trial import run_apart, trial


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Rebuild the run's model and dataset, test, write `metrics.json`, draw; returns what is in the file."""
    started = time.monotonic()
    check_evaluation(config)
    run, weights, trained = subject(config)
    check_root(run.dataset)
    trainer = build_tester(config, run)
    metrics = retrieval_metrics_of(trainer)
    seed_everything(run.seed, workers=True, verbose=False)
    data = build_data(run)
    if is_first_process():
        print(describe(run.dataset.name, data.loaded_split))
    compare_fingerprint(data.loaded_split, trained)
    embedder, name = network(run, weights, config)
    floors = {}
    if config.baselines:
        floors["raw pixels"] = test_metrics(RawPixels(), data, metrics.ks, metrics.metrics)
    trainer.test(EvaluationModule(embedder), datamodule=data, verbose=False)
    figures = {
        **test_figures(trainer, floors),
        "dataset": run.dataset.name,
        "fingerprint": fingerprint(data.loaded_split),
        **data.skipped_figures(),
    }
    if trainer.is_global_zero:
        if config.audit:
            z_ND, evaluation = metrics.embeddings.cpu(), data.evaluation_set("test")
            figures["audit"] = audit(z_ND, evaluation, metrics.ranking, metrics.ks, metrics.clusters)
        write_results(trainer, Path(config.run_dir), figures)
        print_figures(f"{run.dataset.name}, {name}", figures, "test")
        if config.audit:
            print_audit(figures["audit"])
        if config.embeddings:
            write_embeddings(Path(config.run_dir), data, metrics.embeddings.cpu(), run.seed)
        if config.report:
            report(Path(config.run_dir), trainer, run, time.monotonic() - started)
    return figures


def check_root(dataset: DictConfig) -> None:
    """Raise UserError where the folder of the images is not there."""
    if dataset.root is not None and not Path(dataset.root).exists():
        raise UserError(
            f"dataset.root={dataset.root} is not there, seen from {Path.cwd()}: give the folder that holds the images "
            f"of {dataset.name} with dataset.root=…."
        )


def compare_fingerprint(split: Split, trained: str | None) -> None:
    """Warn if the split is not the one that the run trained on."""
    if trained not in (None, found := fingerprint(split)):
        why = "has other images, classes or roles" if len(split.train) else "holds no training images"
        note(
            f"The dataset {why}: its split fingerprint is {found}, and was {trained} in training, so the figures are "
            "those of the run only if the test images are the same."
        )


def network(run: DictConfig, weights: Mapping[str, Tensor], config: DictConfig) -> tuple[nn.Module, str]:
    """The run's network, and what it is called: by its checkpoint or, if there is none, by its model."""
    embedder = build(run.model)
    if not weights:
        return embedder, str(run.model.get("name", run.model._target_.rpartition(".")[2]))
    # Before Lightning does it: weights of precision=64-true would be rounded on their way in.
    embedder.to(next(w.dtype for w in weights.values() if w.is_floating_point()))
    load_weights(embedder, weights, config.ckpt_path)
    return embedder, config.ckpt_path


def build_tester(config: DictConfig, run: DictConfig) -> pl.Trainer:
    """The trainer and callbacks of `conf/evaluate.yaml`, with what they need to know of the run."""
    settings = config.copy()
    settings.trainer.precision, settings.dataset.recall_at = run.trainer.precision, run.dataset.recall_at
    for group in ("trainer", "callbacks"):
        check(settings[group], group)
    check_limits(settings.trainer)
    callbacks = [build(callback) for callback in settings.callbacks.values() if callback]
    return build(settings.trainer, callbacks=callbacks, logger=False)


def run(config: DictConfig) -> None:
    """One evaluation, or one trial of a sweep over checkpoints."""
    folder = Path(config.run_dir)
    with trial(config) as apart:
        if is_first_process():
            set_aside(folder, OF_A_TEST)
        if apart:
            run_apart("dml.evaluate", list(HydraConfig.get().overrides.task), folder)
        else:
            evaluate(config)
