"""What `dml.tune` searches, checked before anything is built."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pydantic import NonNegativeInt, PositiveInt

from dml.config.build import check_run
from dml.config.check import check, valid
from dml.config.refusal import REFUSED, explain
from dml.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KEYS: dict[str, Any] = {
    "trials": PositiveInt,
    "seed": NonNegativeInt,
    "startup_trials": NonNegativeInt,
    "pruner": dict[str, Any] | None,
    "space": dict[str, Any],
}
RANGE = {
    "low": float,
    "high": float,
    "log": bool,
    "step": float,
    "choices": list[str | int | float | bool | None],
}
# Those that a trial is given by the study.
OWN = ("protocol", "test", "resume", "ckpt_path", "overwrite", "run_dir")


def check_tuning(config: DictConfig) -> None:
    """Check the keys of a study, and the training that each end of its space is.

    Raises:
        UserError: a key or a value is refused, or Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise UserError('python -m dml.tune needs Optuna: pip install "dml[tune]".')
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("dml.tune is a sweep itself: leave -m out, and give choices in tune.space.")
    if own := [name for name in map(key_of, HydraConfig.get().overrides.task) if name in OWN]:
        raise UserError(f"dml.tune sets {own[0]} itself, for each trial: leave it out.")
    check_keys(config.tune)
    check_space(config)


def check_keys(tune: DictConfig) -> None:
    """Raise UserError unless the keys of `tune` are those of `conf/tune.yaml`, with values of their types."""
    typed: Any = OmegaConf.to_container(tune, resolve=True)
    if wrong := typed.keys() ^ KEYS.keys():
        raise UserError(
            f"The keys of tune are {', '.join(KEYS)}: tune.{min(wrong)} is missing or not one of them."
        )
    for key, value in typed.items():
        valid(value, KEYS[key], f"tune.{key}")
    if tune.pruner is not None:
        check(tune.pruner, "tune.pruner")


def check_space(config: DictConfig) -> None:
    """Raise UserError unless what is searched are keys of the training, and each end of a range passes its checks."""
    space = space_of(config)
    for key in space:
        parent, _, name = key.rpartition(".")
        if name not in (OmegaConf.select(config, parent) or {} if parent else config):
            raise UserError(
                f"tune.space.{key}: there is no key {key} here; '~tune.space.{key}' leaves it out"
                + (f", '~tune.space.{parent}' all of {parent}." if parent else ".")
            )
    for parameters in corners(space):
        try:
            trial = compose("train", trial_overrides(parameters))
        except REFUSED as error:
            raise UserError(f"tune.space: {explain(error, 'train', trial_overrides({}))}") from error
        except ValueError as error:  # null for a group
            raise UserError(f"tune.space: {error}") from error
        check_run(trial)


def key_of(override: str) -> str:
    """The key of an override as it was typed."""
    return override.lstrip("+~").partition("=")[0]


def trial_overrides(parameters: dict[str, Any]) -> list[str]:
    """The overrides of a trial with these values, as on the command line of `dml.train`."""
    typed = [word for word in HydraConfig.get().overrides.task if key_of(word).partition(".")[0] != "tune"]
    values = {key: v if isinstance(v, str) else json.dumps(v) for key, v in parameters.items()}
    return [*typed, "protocol=holdout", *(f"{key}={value}" for key, value in values.items())]


def space_of(config: DictConfig) -> "dict[str, BaseDistribution]":
    """What is searched: each key with its distribution.

    Raises:
        UserError: it is empty, or a range is none.
    """
    ranges = dict(ranges_in(OmegaConf.to_container(config.tune.space, resolve=True)))
    if not ranges:
        raise UserError("tune.space is empty: give a key, as in '+tune.space.loss.alpha={low: 1, high: 10}'.")
    if fixed := ranges.keys() & set(map(key_of, HydraConfig.get().overrides.task)):
        key = min(fixed)
        raise UserError(f"{key} is given and searched: leave it out, or ~tune.space.{key}.")
    return {key: distribution(of_key, f"tune.space.{key}") for key, of_key in ranges.items()}


def ranges_in(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The ranges in nested mappings, each with its dotted key; null is none."""
    if isinstance(node, dict) and not node.keys() & RANGE.keys():
        for key, value in node.items():
            yield from ranges_in(value, f"{path}.{key}" if path else str(key))
    elif node is not None:
        yield path, node


def distribution(of_key: Any, where: str) -> "BaseDistribution":
    """Optuna's distribution of `{low, high}`, with `log` or `step`, or of `{choices}`; whole numbers by a whole step.

    Raises:
        UserError: the range is none.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(of_key, dict) or (unknown := of_key.keys() - RANGE.keys()):
        what = min(unknown) if isinstance(of_key, dict) else of_key
        raise UserError(
            f"{where}: {what} is not of the form {{low: …, high: …}}, with log or step, or {{choices: […]}}."
        )
    for name, value in of_key.items():
        valid(value, RANGE[name], f"{where}.{name}")
    kind: Any = FloatDistribution
    if "choices" in of_key:
        kind = CategoricalDistribution
    elif "step" in of_key and all(isinstance(of_key.get(name), int) for name in ("low", "high", "step")):
        kind = IntDistribution
    try:
        return kind(**of_key)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}={of_key}: {error}") from error


def corners(space: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Points of the space, as of `space_of`, that have each end of each range, and each choice, at least once."""
    ends = {key: getattr(span, "choices", None) or (span.low, span.high) for key, span in space.items()}
    for place in range(max(map(len, ends.values()))):
        yield {key: values[min(place, len(values) - 1)] for key, values in ends.items()}
