"""Names of a Weights & Biases run, from Hydra's command line."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

LONGEST_NAME = 128  # characters that W&B takes
# Keys that say what a run tries. The rest, such as trainer.max_time, is left out of its name.
TRIED = (
    *("experiment", "protocol", "seed", "mining", "weighting", "memory", "model", "sampler"),
    *("loss", "regularizer", "optimizer", "scheduler", "lr_factors"),
)


def run_name(chosen: Sequence[str], overrides: Sequence[str]) -> str:
    """A name such as `cars-ms-alpha=2`: the chosen dataset and loss, then what the command line says of `TRIED`."""
    parts = list(chosen)
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key.partition(".")[0] in TRIED and key != "loss":
            parts.append(f"{key.rpartition('.')[2]}={short(value)}")
    return "-".join(parts)[:LONGEST_NAME]


def short(value: str) -> str:
    """The last part of a path, a number with at most four digits, any other value as it is."""
    try:
        return f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value.rpartition("/")[2]


def sweep_group() -> str | None:
    """The last two parts of a sweep's folder, by default its date and time; None outside a sweep."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return "/".join(Path(HydraConfig.get().sweep.dir).parts[-2:])


def names_of_command() -> dict[str, Any]:
    """Name, group and tags from Hydra's command line; empty in a process without one."""
    if not HydraConfig.initialized():
        return {}
    choices, overrides = HydraConfig.get().runtime.choices, HydraConfig.get().overrides.task
    dataset, loss = choices["dataset"], choices["loss"]
    return {
        "name": os.environ.get("WANDB_NAME") or run_name([dataset, loss], list(overrides)),
        "group": os.environ.get("WANDB_RUN_GROUP") or sweep_group() or dataset,
        "tags": [dataset, loss, choices["model"]],
    }
