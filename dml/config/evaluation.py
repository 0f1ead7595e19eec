"""Checks an evaluation's configuration before its checkpoint is read."""

import re
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dml.config.check import check_parquet, valid
from dml.config.schema import EVALUATION
from dml.errors import UserError


def check_evaluation(config: DictConfig) -> None:
    """Check an evaluation's configuration without reading its checkpoint; a run's folder stands for its best one."""
    if unread := sorted(map(str, config.keys() - EVALUATION)):
        raise UserError(
            f"{unread[0]}=… has no effect: the checkpoint gives all but its dataset's and data's keys; leave it out."
        )
    for key in ("audit", "baselines", "report", "embeddings"):
        config[key] = valid(config[key], bool, key)
    check_parquet(config)
    check_protocol(config)
    if OmegaConf.is_missing(config, "ckpt_path"):
        if config.get("model") is None or "split" not in config.dataset:
            raise UserError(
                "ckpt_path is missing: give the checkpoint to evaluate, such as ckpt_path=…/checkpoints/best.ckpt; or, "
                "for a network without one, dataset=… and model=…."
            )
        return
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    for group in ("model", "sampler", "optimizer", "scheduler"):
        # A dataset's recipe names them too.
        own = config.get(group) is not None and "split" not in config.dataset
        if own or any(re.match(rf"\+*{group}\b", override) for override in typed):
            raise UserError(f"{group}=… has no effect: the checkpoint gives the {group}; leave it out.")
    config.ckpt_path = checkpoint_file(config.ckpt_path)


def checkpoint_file(ckpt_path: object) -> str:
    """The file of a checkpoint, which must be there; a run's folder stands for its best one."""
    path = Path(str(ckpt_path))
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise UserError(f"ckpt_path={path}: there is no such file; runs keep theirs in checkpoints/.")
    return str(path)


def check_protocol(config: DictConfig) -> None:
    """Raise UserError unless an evaluation's protocol and its other keys go together."""
    given = {key for key, value in config.dataset.items() if value is not None}
    if config.protocol == "retrieval":
        if "pairs" in given:
            raise UserError(
                "dataset.pairs=… is read by protocol=verification alone: add that, or leave it out."
            )
        return
    if config.protocol != "verification":
        raise UserError(
            f"protocol={config.protocol} must be retrieval or verification: how the checkpoint was chosen was settled "
            "in training."
        )
    if not {"pairs", "root"} <= given:
        raise UserError(
            "protocol=verification needs dataset.pairs=…, the list of pairs, and dataset.root=…, the folder that "
            "holds their images."
        )
    unread = sorted(given - {"pairs", "root"}) if not OmegaConf.is_missing(config, "ckpt_path") else []
    if config.audit or unread:
        raise UserError(
            f"{'audit' if config.audit else f'dataset.{unread[0]}'}=… has no effect in verification, which takes "
            "dataset.pairs and dataset.root, and all else from the checkpoint: leave it out."
        )
