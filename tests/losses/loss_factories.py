"""Every loss of `conf/loss`, found by its file."""

from copy import deepcopy
from functools import cache
from typing import Any

import torch
from loss_cases import CONF, from_yaml, names_in
from omegaconf import OmegaConf

from dml.losses import PairLoss

# Beside the values of the files, settings in which a loss takes another branch.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "contrastive of few negatives": ("contrastive", {"lambda": 0.2}),
    "general, euclidean": ("general", {"euclidean": True}),
    "lifted_structure with closed hinges": ("lifted_structure", {"lambda": -1.5}),
    "margin with a penalty": ("margin", {"nu": 0.1}),
    "ms without mining": ("ms", {"epsilon": None}),
}
FILES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in names_in("loss")}
LOSSES = FILES | VARIANTS


def make(name: str) -> PairLoss:
    """A copy of `built(name)`, which the caller may change."""
    return deepcopy(built(name))


@cache
def built(name: str) -> PairLoss:
    """In float64, with the same parameters each time; reading its yaml takes longer than most tests.

    Parameters a class are for 20 classes. A mining is `relative`, which draws nothing at random: minings have tests of
    their own.
    """
    file, changed = LOSSES[name]
    keys = OmegaConf.to_container(OmegaConf.load(CONF / "loss" / f"{file}.yaml"))
    assert isinstance(keys, dict)
    overrides: dict[str, Any] = {"num_classes": 20} if "num_classes" in keys else {}
    if keys.get("mining") is not None:
        overrides["mining"] = OmegaConf.load(CONF / "mining" / "relative.yaml")
    torch.manual_seed(0)
    loss: PairLoss = from_yaml(f"loss/{file}", **overrides, **changed).double()
    return loss
