"""Resuming under other settings than those of the checkpoint: refused, or applied and reported."""

import re
import warnings
from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer

from dml.config.check import leaves, origin
from dml.errors import UserError, note

# Where a run lies, what it runs on and what it shows: none of these changes what is learnt.
WITHOUT_INFLUENCE = re.compile(
    r"(run_dir|ckpt_path|resume|overwrite|baselines|report|test|embeddings|published\b.*|logger\b.*|dataset\.download"
    r"|model\.(weights|checkpoint_gradients|channels_last|compile)|.*\.root|.*\.(dir)?path"
    r"|data\.(num_workers|worker_timeout|pin_memory|cache|cache_dir|on_bad_image)"
    r"|callbacks\.(last_checkpoint|pair_statistics|retrieval_grid|progress|recall\.metrics|recall\.nmi)\b.*"
    r"|trainer\.(accelerator|devices|num_nodes|strategy\b.*|log_every_n_steps|enable_.*))"
)


def check_settings(
    checkpoint: dict[str, Any], config: DictConfig, fingerprint: str, path: object
) -> list[str]:
    """What differs from the checkpoint's settings, each as `key=now (was then)`.

    A UserError if the run cannot resume so: with other data, of which `fingerprint` is the present one, another
    protocol or optimiser, or fewer steps.
    """
    # OmegaConf would also resolve a checkpoint's resolvers, but a checkpoint is data: it may not call any.
    was, now = dict(leaves(checkpoint["config"])), dict(leaves(OmegaConf.to_container(config)))
    if checkpoint.get("fingerprint", fingerprint) != fingerprint:
        raise UserError(
            f"ckpt_path={path} was written on other data: split fingerprint {checkpoint['fingerprint']} of "
            f"{was.get('dataset.name')}, and here {fingerprint} of {config.dataset.name}; give the same data, or "
            "start a new run in another folder."
        )
    changed = {
        key: f"{key}={after} (was {before})"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key) and not WITHOUT_INFLUENCE.fullmatch(key)
        if (before := was.get(origin(was, key))) != (after := now.get(origin(now, key)))
    }
    for key, why in (
        ("protocol", "it sets other images aside for validation"),
        ("optimizer._target_", "it cannot take over the other's state"),
        ("model.freeze", "the optimiser's state is that of other parameters"),
    ):
        if key in changed:
            raise UserError(f"ckpt_path={path} cannot resume with {changed[key]}: {why}.")
    if checkpoint["global_step"] > config.trainer.max_steps:
        raise UserError(
            f"ckpt_path={path} is of step {checkpoint['global_step']}, beyond trainer.max_steps="
            f"{config.trainer.max_steps}: give more steps."
        )
    return list(changed.values())


class NewSettings(pl.Callback):
    """Resumes with the present learning rates, schedule and other arguments of the optimiser.

    Lightning would take all of it from the checkpoint. The optimiser's state, such as Adam's moments, is the
    checkpoint's.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        made: Any = pl_module.configure_optimizers()
        optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for _ in range(checkpoint["lr_schedulers"][0]["last_epoch"]):
                scheduler.step()
        state, step = checkpoint["optimizer_states"][0], checkpoint["global_step"]
        was, now = (groups[0]["lr"] for groups in (state["param_groups"], optimizer.param_groups))
        state["param_groups"] = optimizer.state_dict()["param_groups"]
        checkpoint["lr_schedulers"] = [scheduler.state_dict()]
        try_step(optimizer, state)
        if was != now:
            note(f"The learning rate at step {step} is {now:.4g} (was {was:.4g}).")


def try_step(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Raise UserError if an optimiser's state lacks what a step needs, such as the maxima of Adam's `amsgrad`."""
    trial = deepcopy(optimizer)
    for group in trial.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    trial.load_state_dict(state)
    try:
        trial.step(lambda: 0.0)
    except KeyError as error:
        raise UserError(
            f"The checkpoint's optimiser holds no {error}, which the present optimizer.… needs: resume with the "
            "optimizer.… of before, or start a new run."
        ) from error
