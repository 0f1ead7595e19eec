"""What an evaluation evaluates: a checkpoint, a checkpoint on another dataset, or a network without a checkpoint."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dml.config.check import check, resolved
from dml.config.cli import CONF
from dml.config.trusted import TrustedRun, read_run


def subject(config: DictConfig) -> TrustedRun:
    """The configuration to build, and the weights if there is a checkpoint.

    - `ckpt_path=…`: the run's network on the run's dataset.
    - `ckpt_path=… dataset=…`: the run's network on another dataset. Images are read, resized and cropped as the run's
      own were; of the other dataset only the split and the K of Recall@K are taken.
    - `dataset=… model=…`: a network with the weights of `model.weights`, without a head, which would be untrained.
    """
    if OmegaConf.is_missing(config, "ckpt_path"):
        return TrustedRun(_without_checkpoint(config), {})
    overrides, elsewhere = given(config), "split" in config.dataset
    if elsewhere:
        overrides = {key: value for key, value in overrides.items() if not key.startswith("dataset.")}
    run = read_run(config.ckpt_path, overrides, config.trust or ())
    if elsewhere:
        run = run._replace(config=_on_dataset(run.config, config.dataset), fingerprint=None)
    return run


def given(config: DictConfig) -> dict[str, Any]:
    """What the command line says in place of the checkpoint, by dotted key."""
    precision = {"precision": config.trainer.precision}
    groups = {"dataset": config.dataset, "data": config.data, "trainer": precision}
    return {
        f"{group}.{key}": value
        for group, values in groups.items()
        for key, value in values.items()
        if value is not None
    }


def _on_dataset(run: DictConfig, dataset: DictConfig) -> DictConfig:
    """The run's configuration with another dataset's split."""
    whole = OmegaConf.create({"dataset": dataset})
    check(whole)
    other = resolved(whole)["dataset"]
    moved = run.copy()
    moved.data.split = other["split"]
    moved.dataset = {key: other[key] for key in ("name", "root", "recall_at")}
    return moved


def _without_checkpoint(config: DictConfig) -> DictConfig:
    """The configuration that training would start from, as far as a test reads it."""
    data = OmegaConf.load(Path(CONF, "data", "default.yaml"))
    own = {key: value for key, value in config.data.items() if value is not None}
    whole = OmegaConf.create(
        {
            "dataset": config.dataset,
            "model": config.model,
            "data": OmegaConf.merge(data, own),
            "sampler": None,
            "protocol": "paper",
            "seed": 0,
        }
    )
    if "embedding_dim" in whole.model:
        whole.model.embedding_dim = None
    check(whole)
    plain = resolved(whole)
    plain["dataset"] = {key: plain["dataset"][key] for key in ("name", "root", "recall_at")}
    return OmegaConf.create(plain | {"trainer": {"precision": config.trainer.precision}})
