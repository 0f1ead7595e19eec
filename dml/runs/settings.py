"""A run that goes on under other settings than those of its checkpoint: refused, or applied and said."""

import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_warn
from omegaconf import DictConfig, OmegaConf

from dml.errors import Note, UserError
from dml.module import EmbeddingModule
from dml.runs.checkpoints import run_config

# Where a run lies, what it runs on and what it shows: none of these changes what is learnt.
WITHOUT_INFLUENCE = re.compile(
    r"(run_dir|ckpt_path|resume|baselines|logger\b.*|dataset\.download|model\.weights|.*\.root|.*\.(dir)?path"
    r"|data\.(num_workers|pin_memory|cache|cache_dir)"
    r"|callbacks\.(last_checkpoint|pair_statistics|retrieval_grid|progress|recall\.metrics|recall\.nmi)\b.*"
    r"|trainer\.(accelerator|devices|num_nodes|strategy\b.*|log_every_n_steps|enable_.*))"
)


def check_settings(
    checkpoint: dict[str, Any], config: DictConfig, fingerprint: str, path: object
) -> list[str]:
    """What differs from the checkpoint's settings, each as `key=now (was then)`.

    Args:
        checkpoint: what the run goes on from.
        config: the present settings.
        fingerprint: of the present data.
        path: the checkpoint's file, for messages.

    Raises:
        UserError: the run cannot go on with other data, another optimiser or fewer steps.
    """
    before = run_config(checkpoint)
    if checkpoint.get("fingerprint", fingerprint) != fingerprint:
        raise UserError(
            f"ckpt_path={path} was written on other data: split fingerprint {checkpoint['fingerprint']} of "
            f"{before.dataset.name}, and here {fingerprint} of {config.dataset.name}; give the same data, or begin "
            "anew in another folder."
        )
    changed = dict(differences(before, config))
    for key, why in (
        ("protocol", "it sets other images aside for validation"),
        ("optimizer._target_", "it cannot take over the other's state"),
    ):
        if key in changed:
            raise UserError(f"ckpt_path={path} cannot go on with {changed[key]}: {why}.")
    if checkpoint["global_step"] > config.trainer.max_steps:
        raise UserError(
            f"ckpt_path={path} is of step {checkpoint['global_step']}, beyond trainer.max_steps="
            f"{config.trainer.max_steps}: give more steps."
        )
    return list(changed.values())


def differences(before: DictConfig, now: DictConfig) -> Iterator[tuple[str, str]]:
    """Each key with another value, and in words what it is and was.

    A key that only refers to another, in both alike, is left out: the other is compared itself.
    """
    old, new = (dict(leaves(OmegaConf.to_container(c, resolve=False))) for c in (before, now))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key) or WITHOUT_INFLUENCE.fullmatch(key):
            continue
        was, is_now = OmegaConf.select(before, key), OmegaConf.select(now, key)
        if was != is_now:
            yield key, f"{key}={is_now} (was {was})"


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested mappings by their dotted keys; a list is one value."""
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        yield from leaves(value, f"{path}.{key}" if path else str(key))


class NewSettings(pl.Callback):
    """Gives a run that goes on its present learning rates, schedule and whatever else its optimiser is told.

    Lightning would take all of it from the checkpoint. What the optimiser has gathered, such as Adam's moments, stays
    the checkpoint's.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, EmbeddingModule)
        made = pl_module.configure_optimizers()
        optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for _ in range(checkpoint["lr_schedulers"][0]["last_epoch"]):
                scheduler.step()
        was, now = (
            [group["lr"] for group in groups]
            for groups in (checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups)
        )
        checkpoint["optimizer_states"][0]["param_groups"] = optimizer.state_dict()["param_groups"]
        checkpoint["lr_schedulers"] = [scheduler.state_dict()]
        if was != now:
            rank_zero_warn(
                f"The learning rate at step {checkpoint['global_step']} is {now[0]:.4g} (was {was[0]:.4g}).",
                category=Note,
            )
