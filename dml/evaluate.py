"""Judge a checkpoint again, from the checkpoint alone: `python -m dml.evaluate ckpt_path=…/best.ckpt`."""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything

from dml.config.build import build_data, build_module, build_trainer
from dml.config.cli import CONF, one_sentence
from dml.data.split import describe, fingerprint
from dml.distributed import is_first_process
from dml.errors import UserError
from dml.runs.checkpoints import load_weights, read_checkpoint, run_config
from dml.runs.folder import set_aside
from dml.runs.report import print_table, without_prefix, write_metrics


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Rebuild the run's model and dataset, test, report; returns what `metrics.json` holds."""
    if OmegaConf.is_missing(config, "ckpt_path"):
        raise UserError(
            "ckpt_path is missing: give the checkpoint to judge, such as ckpt_path=…/checkpoints/best.ckpt."
        )
    checkpoint = read_checkpoint(config.ckpt_path)
    run = adapted(run_config(checkpoint), config)
    seed_everything(run.seed, workers=True, verbose=False)
    data = build_data(run)
    if is_first_process():
        print(describe(run.dataset.name, data.loaded_split))
    learner = build_module(run, data.num_classes)
    load_weights(learner, checkpoint, config.ckpt_path)
    trainer = build_trainer(run)
    trainer.test(learner, datamodule=data, verbose=False)
    test = {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")
    }
    if trainer.is_global_zero:
        print_table(f"{run.dataset.name}, {config.ckpt_path}", {"test": without_prefix(test, "test")})
    return test | {"dataset": run.dataset.name, "fingerprint": fingerprint(data.loaded_split)}


def adapted(run: DictConfig, config: DictConfig) -> DictConfig:
    """The run's configuration on this machine: nothing is trained, and no weights are read but the checkpoint's."""
    run.run_dir = config.run_dir
    run.model.weights = None
    run.callbacks = {
        name: run.callbacks[name] for name in ("recall", "retrieval_grid") if run.callbacks.get(name)
    }
    run.logger = {}
    for key in ("accelerator", "devices", "num_nodes", "strategy"):
        run.trainer[key] = config.trainer[key]
    if config.dataset.root is not None:
        run.dataset.root = config.dataset.root
    if config.data.num_workers is not None:
        run.data.num_workers = config.data.num_workers
    return run


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
