"""A configuration checked against what reads it, before any work begins."""

import inspect
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Set
from pkgutil import resolve_name
from typing import Any, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from dml.config.schema import FilledIn, Group, Parts, Train
from dml.errors import Note, UserError

# "lambda" is a Python keyword, so the argument has another name.
RENAMED = {"lambda": "lam"}
REFERENCE = r"\$\{([\w.]+)\}"
RULES = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


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
    check(config, Train)
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


def check(node: DictConfig, schema: type[Group] | None = None, path: str = "") -> None:
    """Check a part of the configuration: its keys against their readers, its values against the readers' types.

    Args:
        node: the part; a boolean that was given as a word is replaced in it.
        schema: the keys that the package reads from it.
        path: the part's own key, such as "loss"; empty for a whole configuration.
    """
    _Check(node, path).group(node, schema, path)


def references(config: DictConfig) -> set[str]:
    """The keys that values of the configuration refer to, as `loss.mining` does in `mining: ${mining}`."""
    return set(re.findall(REFERENCE, OmegaConf.to_yaml(config)))


class _Check:
    """One pass over a configuration."""

    def __init__(self, config: DictConfig, path: str) -> None:
        self.raw = OmegaConf.to_container(config, resolve=False)
        for key in reversed(path.split(".") if path else []):
            self.raw = {key: self.raw}
        self.read = references(config)

    def group(self, node: DictConfig, schema: type[Group] | None, path: str) -> None:
        """A group of keys: the arguments of its `_target_`, those in the schema, or both."""
        target = node.get("_target_")
        arguments, takes_any = _arguments(target, path)
        kinds = arguments | (get_type_hints(schema, include_extras=True) if schema else {})
        for key in list(node):
            where = f"{path}.{key}" if path else str(key)
            if str(key).startswith("_"):  # _partial_ and the like are Hydra's
                continue
            value = _value(node, key, where)
            known = RENAMED.get(str(key), str(key))
            if known in kinds:
                kind = kinds[known]
            elif takes_any or value is None or self._referred(where) or (schema is Parts and _built(value)):
                kind = Any
            else:
                raise UserError(f"There is no key {where}: {_who_reads(target, arguments)}")
            self.entry(node, key, kind, where, value, in_target=target is not None)

    def entry(self, node: Any, key: Any, kind: Any, where: str, value: Any, in_target: bool) -> None:
        """One value, in a group or in a list."""
        schema = kind if isinstance(kind, type) and issubclass(kind, Group) else None
        if OmegaConf.is_interpolation(node, key) and OmegaConf.is_config(value) and _has_parts(value):
            return  # checked where it is written
        if isinstance(value, DictConfig) and (schema or _built(value) or not in_target):
            self.group(value, schema, where)
        elif isinstance(value, ListConfig) and _has_parts(value):
            for i, item in enumerate(value):
                self.entry(value, i, Any, f"{where}[{i}]", item, in_target)
        elif schema is None:
            plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            checked = valid(plain, kind, self._origin(where))
            if checked is not plain:
                node[key] = checked
        elif value is not None:
            raise UserError(f"{where}={value} must be a group of keys, or null.")

    def _referred(self, where: str) -> bool:
        """Whether another value refers to this one, to a part of it or to what it is a part of."""
        return any(
            f"{other}.".startswith(f"{where}.") or where.startswith(f"{other}.") for other in self.read
        )

    def _origin(self, where: str) -> str:
        """The key from which a value comes, through all references."""
        while True:
            raw: Any = self.raw
            for key in where.split("."):
                raw = raw.get(key) if isinstance(raw, dict) else None
            reference = re.fullmatch(REFERENCE, raw) if isinstance(raw, str) else None
            if reference is None:
                return where
            where = reference[1]


def _value(node: DictConfig, key: Any, where: str) -> Any:
    if OmegaConf.is_missing(node, key):
        raise UserError(f"{where} is missing: give it on the command line, {where}=….")
    try:
        return node[key]
    except InterpolationResolutionError as error:
        raise UserError(f"{where}: {str(error).splitlines()[0]}; give it on the command line.") from error


def _built(value: Any) -> bool:
    """Whether an object is built from the value."""
    return isinstance(value, DictConfig) and "_target_" in value


def _has_parts(value: Any) -> bool:
    """Whether the value is a group of keys, or a list with one."""
    return isinstance(value, DictConfig) or any(isinstance(item, DictConfig) for item in value)


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


def _who_reads(target: str | None, arguments: Mapping[str, Any]) -> str:
    if target is None:
        return "nothing reads it, so correct it or leave it out."
    names = {lam: key for key, lam in RENAMED.items()}
    return f"{target} takes {', '.join(names.get(name, name) for name in arguments) or 'none'}."


def valid(value: Any, kind: Any, where: str) -> Any:
    """The value, or the boolean that it stands for.

    Args:
        value: of plain containers.
        kind: a type annotation.
        where: its key.

    Raises:
        UserError: it is not of this type.
    """
    if kind is FilledIn:
        raise UserError(f"{where} is filled in by the run itself: leave it out.")
    if not all(math.isfinite(number) for number in _numbers(value)):
        raise UserError(f"{where}={shown(value)} must be finite.")
    if kind is Any or kind is inspect.Parameter.empty or isinstance(kind, str):
        return value
    try:
        adapter = TypeAdapter(kind, config=RULES)
    except PydanticUserError:  # a type that only its owner can check
        return value
    try:
        adapter.validate_json(json.dumps(value))
        return value
    except ValidationError as error:
        wrong = error
    try:
        # As YAML 1.1 has it: yes, on, y and 1 for true, no, off, n and 0 for false.
        boolean = TypeAdapter(bool).validate_python(value)
        adapter.validate_json(json.dumps(boolean))
        return boolean
    except ValidationError:
        raise UserError(_sentence(wrong, value, where)) from None


def _numbers(value: Any) -> Iterator[float]:
    """All floating-point numbers in plain containers."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)


def _sentence(error: ValidationError, value: Any, where: str) -> str:
    """What is wrong with the value, in pydantic's words."""
    errors = error.errors()
    # Objects that only Python code can give are no advice.
    first, *others = [e for e in errors if e["type"] != "needs_python_object"] or errors
    place = [part for part in first["loc"] if isinstance(part, int)]
    expected = dict.fromkeys(
        re.sub(r"^\w+ should (be )?", "", e["msg"]).replace("valid array", "list")
        for e in (first, *others)
        if [part for part in e["loc"] if isinstance(part, int)] == place
    )
    for i in place:
        value, where = value[i], f"{where}[{i}]"
    hint = ""
    if isinstance(value, int | float) and any("string" in word for word in expected):
        hint = """; a name that looks like a number needs quotes, as in '"1.10"'"""
    be = "" if "too_short" in first["type"] else "be "
    return f"{where}={shown(value)} must {be}{' or '.join(expected)}{hint}."


def shown(value: Any) -> str:
    """A value as it is typed."""
    return str(value) if isinstance(value, str | float) else json.dumps(value)
