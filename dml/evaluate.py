"""Evaluate a checkpoint, from the checkpoint alone: `python -m dml.evaluate ckpt_path=…/best.ckpt`."""

import warnings
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything

from dml.config.build import build, build_data
from dml.config.check import check
from dml.config.cli import CONF, one_sentence
from dml.config.trusted import read_run
from dml.data.split import Split, describe, fingerprint
from dml.distributed import is_first_process
from dml.errors import Note, UserError
from dml.module import EvaluationModule
from dml.runs.checkpoints import load_weights as load_embedder
from dml.runs.folder import set_aside
from dml.runs.report import print_table, without_prefix, write_metrics

KEYS = {"ckpt_path", "trust", "dataset", "data", "trainer", "callbacks", "run_dir"}


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Rebuild the run's model and dataset, test, report; returns what `metrics.json` holds."""
    if unread := sorted(map(str, config.keys() - KEYS)):
        raise UserError(
            f"{unread[0]}=… has no effect: the checkpoint gives all but its dataset's and data's keys; leave it out."
        )
    if OmegaConf.is_missing(config, "ckpt_path"):
        raise UserError(
            "ckpt_path is missing: give the checkpoint to evaluate, such as ckpt_path=…/checkpoints/best.ckpt."
        )
    run, weights, trained = read_run(config.ckpt_path, given(config), config.trust or ())
    check_root(run.dataset)
    trainer = build_tester(config, run)
    seed_everything(run.seed, workers=True, verbose=False)
    data = build_data(run)
    if is_first_process():
        print(describe(run.dataset.name, data.loaded_split))
    compare_fingerprint(data.loaded_split, trained)
    module = EvaluationModule(build(run.model))
    load_embedder(module.embedder, weights, config.ckpt_path)
    trainer.test(module, datamodule=data, verbose=False)
    test = {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")
    }
    if trainer.is_global_zero:
        print_table(f"{run.dataset.name}, {config.ckpt_path}", {"test": without_prefix(test, "test")})
    return test | {"dataset": run.dataset.name, "fingerprint": fingerprint(data.loaded_split)}


def given(config: DictConfig) -> dict[str, Any]:
    """What the command line says in place of the checkpoint, by dotted key."""
    groups = {key: config[key] for key in ("dataset", "data")} | {
        "trainer": {"precision": config.trainer.precision}
    }
    return {
        f"{group}.{key}": value
        for group, values in groups.items()
        for key, value in values.items()
        if value is not None
    }


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
        message = (
            f"The dataset {why}: its split fingerprint is {found}, and was {trained} in training, so the figures are "
            "those of the run only if the test images are the same."
        )
        warnings.warn(message, Note, stacklevel=2)


def build_tester(config: DictConfig, run: DictConfig) -> pl.Trainer:
    """The trainer and callbacks of `conf/evaluate.yaml`, with what they need to know of the run."""
    settings = config.copy()
    settings.trainer.precision, settings.dataset.recall_at = run.trainer.precision, run.dataset.recall_at
    for group in ("trainer", "callbacks"):
        check(settings[group], group)
    callbacks = [build(callback) for callback in settings.callbacks.values() if callback]
    return build(settings.trainer, callbacks=callbacks, logger=False)


@hydra.main(version_base="1.3", config_path=CONF, config_name="evaluate")
@one_sentence
def main(config: DictConfig) -> None:
    """Evaluate and print the folder of the results."""
    folder = Path(config.run_dir)
    if is_first_process():
        set_aside(folder, ["metrics.json", "retrievals.png"])
    figures = evaluate(config)
    if is_first_process():
        write_metrics(folder, figures)
        print(folder)


if __name__ == "__main__":
    main()
