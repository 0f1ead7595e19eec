"""What may be built from a checkpoint: its configuration is data, whoever wrote it."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from torchvision.transforms import v2

from dml import models
from dml.config.check import check, references
from dml.config.cli import CONF
from dml.config.schema import MODEL_IN_TRAINING
from dml.errors import UserError
from dml.runs.checkpoints import read_checkpoint

TAKEN = ("model", "data", "dataset.name", "dataset.root", "dataset.recall_at", "seed", "trainer.precision")
# What is not even looked at: groups that say where a run writes, and keys that only training needs.
LEFT_OUT = ("callbacks", "logger", "run_dir")
UNREAD: dict[str, Collection[str]] = {
    "model": MODEL_IN_TRAINING,
    "data": ("sampler", "train_transform", "extra_classes", "protocol", "cache", "cache_dir"),
    "dataset": ("train_transform", "extra_classes", "max_steps", "val_check_interval"),
}
BUILT = ("model", "data", "data.split")
RESERVED = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}  # words of Hydra's instantiate
# An interpolation that only reads another key of the same configuration.
OF_ANOTHER_KEY = re.compile(r"(?<!\\)\$\{(?:oc\.select:)?[^${}:\\]*\}")


class TrustedRun(NamedTuple):
    """What a checkpoint holds of a run, safe to build.

    Attributes:
        config: the keys of `TAKEN`, interpolations replaced; nothing in it reads weights or downloads.
        weights: state dict of the embedding network.
        fingerprint: of the split that it trained on; None where the checkpoint does not say.
    """

    config: DictConfig
    weights: dict[str, Tensor]
    fingerprint: str | None = None


def read_run(
    path: str | Path, overrides: Mapping[str, Any] | None = None, trust: str | Sequence[str] = ()
) -> TrustedRun:
    """Read a checkpoint without running any code that its configuration names.

    A `_target_` must be one that the package's own yamls of `model`, `data` or `dataset` name, a transform of
    `torchvision.transforms.v2`, or defined in a module that is trusted.

    Args:
        path: of the checkpoint.
        overrides: values by dotted key of `dataset`, `data` or `trainer.precision`, in place of the checkpoint's.
        trust: the user's own modules or packages.

    Raises:
        UserError: the checkpoint cannot be read, names another target, asks for more than its own keys, or holds a
            value that its reader does not take; or nothing reads an override.
    """
    checkpoint = read_checkpoint(path)
    modules = [trust] if isinstance(trust, str) else list(trust)
    config = OmegaConf.create({})
    try:
        _import(modules)
        run = _evaluated_part(checkpoint["config"], overrides or {})
        for key in TAKEN:
            value = _resolved(run, key)
            _check(value, key, modules)
            OmegaConf.update(config, key, value)
        trainer = config.pop("trainer")  # checked with the trainer that evaluates
        check(config)
        config.trainer = trainer
    except UserError as error:
        raise UserError(f"ckpt_path={path}: {error}") from error.__cause__
    state = checkpoint["state_dict"].items()
    prefix = "embedder."
    weights = {key.removeprefix(prefix): value for key, value in state if key.startswith(prefix)}
    return TrustedRun(config, weights, checkpoint.get("fingerprint"))


def _evaluated_part(content: dict[str, Any], overrides: Mapping[str, Any]) -> DictConfig:
    """A configuration without what only training needs, its interpolations open but none that calls a resolver."""
    content = {key: value for key, value in content.items() if key not in LEFT_OUT}
    if not all(isinstance(content.get(group), dict) for group in UNREAD):
        raise UserError("not a checkpoint written by dml.train.")
    for group, unread in UNREAD.items():
        content[group] = {key: value for key, value in content[group].items() if key not in unread}
    if isinstance(trainer := content.get("trainer"), dict):
        content["trainer"] = {"precision": trainer.get("precision")}
    taken = {key.partition(".")[0] for key in TAKEN}
    # Such as a loss that read an environment variable: evaluation does without.
    content = {key: value for key, value in content.items() if key in taken or not any(_outside(value))}
    if "weights" in content["model"]:
        content["model"]["weights"] = None
    try:
        config = OmegaConf.create(content)
    except OmegaConfBaseException as error:
        raise UserError(f"not a checkpoint written by dml.train ({str(error).splitlines()[0]}).") from error
    read = {
        *references(config),
        *(f"data.{key}" for key in config.data),
        "dataset.recall_at",
        "trainer.precision",
    }
    for key, value in overrides.items():
        if key not in read:
            raise UserError(
                f"{key}=… has no effect: nothing in its configuration reads that key; leave it out."
            )
        OmegaConf.update(config, key, value)
    for key, value in _outside(OmegaConf.to_container(config)):
        raise UserError(
            f"{key}={value} would be looked up outside the checkpoint, which only the command line may do; "
            "for images that lie elsewhere give dataset.root=…."
        )
    return config


def _resolved(config: DictConfig, key: str) -> Any:
    """One value as plain containers, interpolations replaced."""
    try:
        value = OmegaConf.select(config, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        raise UserError(f"{key} cannot be resolved ({str(error).splitlines()[0]}).") from error


def _items(node: Any) -> list[tuple[Any, Any]]:
    """Keys and values of a dict or a list; none of anything else."""
    if isinstance(node, dict):
        return list(node.items())
    return list(enumerate(node)) if isinstance(node, list) else []


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings in plain containers, each with its dotted key."""
    if isinstance(node, str):
        yield key, node
    for name, value in _items(node):
        yield from _strings(value, f"{key}.{name}" if key else str(name))


def _outside(node: Any) -> Iterator[tuple[str, str]]:
    """The strings in plain containers that would be looked up outside the configuration, with their keys."""
    return (item for item in _strings(node) if "${" in OF_ANOTHER_KEY.sub("", item[1]))


def _check(node: Any, key: str, trust: Sequence[str]) -> None:
    """Refuse a target in plain containers that may not be built; turn off what the others would fetch."""
    for name, value in _items(node):
        _check(value, f"{key}.{name}", trust)
    if not isinstance(node, dict) or "_target_" not in node:
        if key in BUILT:
            raise UserError(f"{key} says nothing that could be built: it has no _target_.")
        return
    target, group = str(node["_target_"]), key.split(".")[0]
    own, partial = target in _own_targets(group), key == "data.split"
    if not own:
        _check_trusted(target, f"{key}._target_={target}", trust)
    # Given by position, `download` and `weights` would not be seen below.
    allowed = RESERVED - {"_args_"} if own and target.startswith("dml.") else RESERVED
    for name in node:
        if re.fullmatch("_.*_", str(name)) and name not in allowed:
            raise UserError(f"{key}.{name} may not stand beside {target}: give its arguments by name.")
    if (own or key in BUILT) and node.get("_partial_", False) is not partial:
        raise UserError(f"{key}._partial_ must be {str(partial).lower()}.")
    if "download" in node:
        node["download"] = False
    if own and group == "model" and "weights" in {*node, *signature(get_object(target)).parameters}:
        node["weights"] = None


@cache
def _own_targets(group: str) -> set[str]:
    """The targets that may be built in a group: those that the package's own yamls name, and transforms of data."""
    if group == "model":
        return {*_named_in("model"), *(f"{models.__name__}.{name}" for name in models.__all__)}
    if group != "data":
        return set()
    kinds = {name: kind for name, kind in vars(v2).items() if isinstance(kind, type)}
    transforms = {f"{v2.__name__}.{name}" for name, kind in kinds.items() if issubclass(kind, v2.Transform)}
    return transforms.union(_named_in("data"), _named_in("dataset"))


def _named_in(group: str) -> Iterator[str]:
    for file in (Path(CONF) / group).glob("*.yaml"):
        for key, value in _strings(OmegaConf.to_container(OmegaConf.load(file))):
            if key.split(".")[-1] == "_target_":
                yield value


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise UserError(f"trust={module} is no module that can be imported ({error}).") from error


def _check_trusted(target: str, named: str, trust: Sequence[str]) -> None:
    """Refuse a target unless a trusted module defines it; what it imports from elsewhere does not count."""
    if target.startswith("dml."):
        raise UserError(
            f"{named} is nothing that this version builds from a checkpoint: use the version of dml that wrote it."
        )
    found = None
    if _is_in(target, trust):
        try:
            found = get_object(target)
        except (ImportError, ValueError) as error:
            raise UserError(f"{named} is not in its module; use the version of it that trained.") from error
    if not _is_in(str(getattr(found, "__module__", None)), trust):
        raise UserError(
            f"{named} is none of this package's models, datasets or transforms, so nothing was built: if it is your "
            "own code, allow the module that defines it with trust=…."
        )


def _is_in(name: str, modules: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)
