"""A configuration checked against what reads it, before any work begins."""

import inspect
import json
import re
import warnings
from collections.abc import Set
from contextlib import suppress
from pkgutil import resolve_name
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from dml.config.schema import FILLED_IN, KEYS, KNOWN, PARTS
from dml.errors import Note, UserError

# "lambda" is a Python keyword, so the argument has another name.
RENAMED = {"lambda": "lam"}
REFERENCE = r"\$\{([\w.]+)\}"
RULES = ConfigDict(strict=True, arbitrary_types_allowed=True)


def check_config(config: DictConfig) -> None:
    """Check every key and value of a training configuration, and turn words such as `no` into booleans.

    Raises:
        UserError: nothing reads a key, or a value is not what its reader takes; the message names the key.
    """
    check_halves(config, references(config))
    dataset: Any = OmegaConf.to_container(config.dataset, resolve=False)
    if "root" in (dataset.get("split") or {}) and dataset.get("root") in (None, ""):
        raise UserError(
            f"dataset.root is not set: give the folder that holds the images of dataset={config.dataset.name}; "
            "docs/datasets.md says how to get them and where they go."
        )
    check(config)
    _check_monitor(config)
    if config.sampler.get("scope") == "local" and config.trainer.devices == config.trainer.num_nodes == 1:
        warnings.warn("sampler.scope=local is the same as global with one process.", Note, stacklevel=2)


def check_halves(config: DictConfig, read: Set[str]) -> None:
    """Raise UserError if a mining or a weighting is chosen that is not among the keys that are read."""
    for group in ("mining", "weighting"):
        if config.get(group) is not None and group not in read:
            raise UserError(
                f"{group}=… changes nothing, since the loss does not read it: take loss=general, "
                f"or leave {group} out."
            )


def _check_monitor(config: DictConfig) -> None:
    """Raise UserError unless validation measures Recall@1 and what the best checkpoint is chosen by."""
    for part, key in (("recall", "ks"), ("best_checkpoint", "monitor")):
        if (config.callbacks.get(part) or {}).get(key) is None:
            raise UserError(
                f"callbacks.{part} chooses the checkpoint that is tested: keep it, and its {key}."
            )
    ks, monitor = list(config.callbacks.recall.ks), config.callbacks.best_checkpoint.monitor
    if 1 not in ks:
        raise UserError(f"dataset.recall_at={ks} must contain 1: runs are compared by Recall@1.")
    recall = re.fullmatch(r"val/recall_at_(\d+)", monitor)
    if recall and int(recall[1]) not in ks:
        raise UserError(
            f"callbacks.best_checkpoint.monitor={monitor} is not measured: add {recall[1]} to "
            f"dataset.recall_at={ks}."
        )


def check(node: DictConfig, path: str = "") -> None:
    """Check a part of the configuration: its keys against their readers, its values against the readers' types.

    Args:
        node: the part; a boolean that was given as a word is replaced in it.
        path: the part's own key, such as "loss"; empty for a whole configuration.
    """
    _Check(node, path).group(node, path)


def references(config: DictConfig) -> set[str]:
    """The keys that values of the configuration refer to, as `mining: ${mining}` refers to "mining"."""
    return set(re.findall(REFERENCE, OmegaConf.to_yaml(config)))


class _Check:
    """One pass over a configuration."""

    def __init__(self, config: DictConfig, path: str) -> None:
        raw: Any = OmegaConf.to_container(config, resolve=False)
        self.raw = {path: raw} if path else raw
        self.read = references(config)

    def group(self, node: DictConfig, path: str) -> None:
        """A group of keys, which its `_target_` reads, or the package itself."""
        target = node.get("_target_")
        arguments, takes_any = _arguments(target, path)
        for key in map(str, list(node)):
            where = f"{path}.{key}" if path else key
            if key.startswith("_"):  # _partial_ and the like are Hydra's
                continue
            if where in FILLED_IN:
                raise UserError(f"{where} is filled in by the run itself: leave it out.")
            name, value = RENAMED.get(key, key), _value(node, key, where)
            read = where in KNOWN or name in arguments or takes_any or self._referred(where)
            if not (read or value is None or (path in PARTS and _built(value))):
                takes = [key for key in arguments if key not in RENAMED.values()] + [
                    key for key, other in RENAMED.items() if other in arguments
                ]
                reader = f"{target} takes {', '.join(takes) or 'none'}" if target else "nothing reads it"
                raise UserError(f"There is no key {where}: {reader}; correct it or leave it out.")
            self.entry(node, key, KEYS.get(where, arguments.get(name, Any)), where, target is not None)

    def entry(self, node: Any, key: Any, kind: Any, where: str, in_target: bool) -> None:
        """One value, of a group or of a list."""
        value = node[key]
        if _has_groups(value) and OmegaConf.is_interpolation(node, key):
            return  # checked where it is written
        if isinstance(value, DictConfig) and (_built(value) or not in_target or where in PARTS):
            self.group(value, where)
        elif isinstance(value, ListConfig) and _has_groups(value):
            for i in range(len(value)):
                self.entry(value, i, Any, f"{where}[{i}]", in_target)
        else:
            plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            checked = valid(plain, kind, self._origin(where))
            if checked is not plain:
                node[key] = checked

    def _referred(self, where: str) -> bool:
        """Whether another value refers to this one, to a part of it or to what it is a part of."""
        return any(
            f"{other}.".startswith(f"{where}.") or where.startswith(f"{other}.") for other in self.read
        )

    def _origin(self, where: str) -> str:
        """The key from which a value comes, through all references."""
        raw: Any = self.raw
        for key in where.split("."):
            raw = raw.get(key) if isinstance(raw, dict) else None
        reference = re.fullmatch(REFERENCE, raw) if isinstance(raw, str) else None
        return self._origin(reference[1]) if reference else where


def _value(node: DictConfig, key: str, where: str) -> Any:
    if OmegaConf.is_missing(node, key):
        raise UserError(f"{where} is missing: give it on the command line, {where}=….")
    try:
        return node[key]
    except InterpolationResolutionError as error:
        raise UserError(f"{where}: {str(error).splitlines()[0]}; give it on the command line.") from error


def _built(value: Any) -> bool:
    """Whether an object is built from the value."""
    return isinstance(value, DictConfig) and "_target_" in value


def _has_groups(value: Any) -> bool:
    """Whether the value is a group of keys, or a list with one."""
    listed = value if isinstance(value, ListConfig) else [value]
    return any(isinstance(item, DictConfig) for item in listed)


def _arguments(target: str | None, path: str) -> tuple[dict[str, Any], bool]:
    """Types of a target's arguments, and whether it takes any others too.

    Raises:
        UserError: there is no such target.
    """
    if target is None:
        return {}, False
    try:
        found = resolve_name(target)
    except (AttributeError, ModuleNotFoundError, ValueError) as error:
        raise UserError(f"{path}._target_={target} cannot be found: {error}.") from error
    try:
        parameters = inspect.signature(found, eval_str=True).parameters
    except NameError:  # a type that is imported for type checkers alone
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):  # written in C, such as torch.relu
        return {}, True
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: parameter.annotation for name, parameter in parameters.items()}, takes_any


def valid(value: Any, kind: Any, where: str) -> Any:
    """The value, or the boolean that it stands for.

    Args:
        value: of plain containers.
        kind: a type annotation.
        where: its key.

    Raises:
        UserError: it is not of this type, or not finite.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        raise UserError(f"{where}={value} must be finite.") from None
    if kind is Any or kind is inspect.Parameter.empty or isinstance(kind, str):
        return value
    try:
        adapter = TypeAdapter(kind, config=RULES)
    except PydanticUserError:  # a type that only its owner can check
        return value
    try:
        adapter.validate_json(text)
        return value
    except ValidationError as error:
        wrong = error
    with suppress(ValidationError):  # JSON knows no class such as numbers.Number
        adapter.validate_python(value)
        return value
    try:
        # As YAML 1.1 has it: yes, on, y and 1 for true, no, off, n and 0 for false.
        boolean = TypeAdapter(bool).validate_python(value)
        adapter.validate_python(boolean)
        return boolean
    except ValidationError:
        raise UserError(_sentence(wrong, value, where)) from None


def _sentence(error: ValidationError, value: Any, where: str) -> str:
    """What is wrong with the value, in pydantic's words."""
    errors = error.errors()
    # Objects that only Python code can give are no advice.
    errors = [e for e in errors if e["type"] != "needs_python_object"] or errors
    places = [[part for part in e["loc"] if isinstance(part, int)] for e in errors]
    for i in places[0]:
        value, where = value[i], f"{where}[{i}]"
    words = [
        e["msg"].replace("valid array", "list") for e, p in zip(errors, places, strict=True) if p == places[0]
    ]
    expected = " or ".join(dict.fromkeys(re.sub(r"^\w+ should (be )?", "", word) for word in words))
    be = "" if "too_short" in errors[0]["type"] else "be "
    hint = """; a name that looks like a number needs quotes, as in '"1.10"'"""
    hint = hint if isinstance(value, int | float) and "string" in expected else ""
    typed = str(value) if isinstance(value, str | float) else json.dumps(value)
    return f"{where}={typed} must {be}{expected}{hint}."
