"""Checks a configuration against its readers before anything is built."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from dml.config.limits import check_limits
from dml.config.refusal import closest
from dml.config.schema import FILLED_IN, GROUPS, KEYS, KNOWN, PARTS
from dml.errors import UserError, note

# "lambda" is a Python keyword, so the argument has another name.
RENAMED = {"lambda": "lam"}
REFERENCE = r"\$\{(\w[\w.]*)\}"
RULES = ConfigDict(strict=True, arbitrary_types_allowed=True)


def check_config(config: DictConfig) -> None:
    """Check every key and value of a training configuration, and turn words such as `no` into booleans."""
    if config.protocol == "verification":
        raise UserError(
            "protocol=verification judges a checkpoint: train with protocol=paper or holdout, then python -m "
            "dml.evaluate ckpt_path=… protocol=verification dataset.pairs=… dataset.root=…."
        )
    for group in GROUPS:
        if not isinstance(config.get(group), DictConfig):
            raise UserError(
                f"{group}={config.get(group)} must be an option of the group {group}, or left out."
            )
    check_halves(config, references(config))
    dataset: Any = OmegaConf.to_container(config.dataset)
    if "root" in (dataset.get("split") or {}) and dataset.get("root") in (None, ""):
        raise UserError(
            "dataset.root is not set: give the folder that holds the images; docs/datasets.md says how to get them and "
            "where they go."
        )
    check(config)
    check_limits(config.trainer)
    check_parquet(config)
    _check_monitor(config)
    if config.sampler.get("scope") == "local" and config.trainer.devices == config.trainer.num_nodes == 1:
        note("sampler.scope=local is the same as global with one process.")


def check_parquet(config: DictConfig) -> None:
    """Raise UserError if embeddings are to be written and pyarrow is not installed."""
    if config.embeddings and find_spec("pyarrow") is None:
        raise UserError('embeddings=true writes Parquet, which needs pyarrow: pip install "dml[parquet]".')


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
    ks = list(config.callbacks.recall.ks)
    if 1 not in ks:
        raise UserError(f"dataset.recall_at={ks} must contain 1: runs are compared by Recall@1.")
    measured = [f"val/recall_at_{k}" for k in ks]
    for name, callback in config.callbacks.items():
        monitor = (callback or {}).get("monitor")
        # What else is logged, such as train/loss, is known at the first validation.
        if str(monitor).startswith(("val", "test")) and monitor not in measured:
            raise UserError(
                f"callbacks.{name}.monitor={monitor} is not measured in validation: take one of "
                f"{', '.join(measured)}, or add its K to dataset.recall_at."
            )


def check(node: DictConfig, path: str = "") -> None:
    """Check a part of the configuration: its keys against their readers, its values against the readers' types.

    Args:
        node: the part; a boolean that was given as a word is replaced in it.
        path: the part's own key, such as "loss"; empty for a whole configuration.
    """
    raw = OmegaConf.to_container(node)
    written = dict(leaves(raw, path))
    for where, value, kind in _values(resolved(node), raw, path, references(node)):
        checked = valid(value, kind, origin(written, where))
        if checked is not value:
            OmegaConf.update(node, where.removeprefix(f"{path}."), checked)


def resolved(node: DictConfig) -> Any:
    """The part as plain containers, interpolations replaced by their values."""
    try:
        return OmegaConf.to_container(node, resolve=True)
    except InterpolationResolutionError as error:
        written = dict(leaves(OmegaConf.to_container(node)))
        key = origin(written, str(error.full_key))
        key = key if key in written else str(error.full_key)  # the key that refers to nothing
        raise UserError(f"{key}: {str(error).splitlines()[0]}; give it on the command line.") from error


def references(config: DictConfig) -> set[str]:
    """The keys that values of the configuration refer to, as `mining: ${mining}` refers to "mining"."""
    return set(re.findall(REFERENCE, OmegaConf.to_yaml(config)))


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested mappings by their dotted keys; a list is one value."""
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def origin(written: Mapping[str, Any], key: str) -> str:
    """The key from which a value comes, through references such as `${dataset.max_steps}`; no resolver is called."""
    for _ in written:  # a longer chain of references never ends
        reference = re.fullmatch(REFERENCE, str(written.get(key)))
        if not reference:
            break
        key = reference[1]
    return key


def _values(
    value: Any, raw: Any, where: str, read: Set[str], kind: Any = Any, in_target: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    """The values of a part, each with its key and its reader's type; a key that nothing reads is a UserError.

    Args:
        value: the part, in plain containers; of a target's arguments only what has a target itself is taken apart.
        raw: the part as it is written.
        where: its key.
        read: all keys that are referred to.
        kind: its type.
        in_target: whether it is an argument of a target.
    """
    has_groups = any(isinstance(item, dict) for item in (value if isinstance(value, list) else [value]))
    if has_groups and isinstance(raw, str):
        return  # a reference: checked where it is written
    if has_groups and isinstance(value, list):
        for i, item in enumerate(value):
            yield from _values(item, raw[i], f"{where}[{i}]", read, Any, in_target)
    elif has_groups and ("_target_" in value or not in_target or where in PARTS):
        arguments, takes_any = _arguments(value.get("_target_"), where)
        for key, item in value.items():
            at = f"{where}.{key}" if where else str(key)
            if at.rpartition(".")[2].startswith("_"):  # _partial_ and the like are Hydra's
                continue
            if at in FILLED_IN:
                raise UserError(f"{at} is filled in by the run itself: leave it out.")
            if item == "???":
                raise UserError(f"{at} is missing: give it on the command line, {at}=….")
            part = where in PARTS and isinstance(item, dict) and "_target_" in item
            known = at in KNOWN or key in arguments or takes_any or part or _is_referred(at, read)
            if not known and item is not None:
                target, meant = value.get("_target_"), closest(str(key), {name: name for name in arguments})
                reader = f"{target} takes {', '.join(arguments) or 'none'}" if target else "nothing reads it"
                hint = f"did you mean {where}.{meant}? {reader}" if meant else reader
                raise UserError(f"There is no key {at}: {hint}; correct it or leave it out.")
            kind = KEYS.get(at, arguments.get(key, Any))
            yield from _values(item, raw[key], at, read, kind, "_target_" in value)
    else:
        yield where, value, kind


def _is_referred(where: str, read: Set[str]) -> bool:
    """Whether another value refers to this one, to a part of it or to what it is a part of."""
    return any(f"{other}.".startswith(f"{where}.") or where.startswith(f"{other}.") for other in read)


def _arguments(target: str | None, path: str) -> tuple[dict[str, Any], bool]:
    """Types of a target's arguments, and whether it takes any others too."""
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
    keys = {name: key for key, name in RENAMED.items()}
    return {keys.get(name, name): p.annotation for name, p in parameters.items()}, takes_any


def valid(value: Any, kind: Any, where: str) -> Any:
    """The value, or the boolean that a word such as `no` means; a UserError if it is not of this type, or not finite.

    Args:
        value: of plain containers.
        kind: a type annotation.
        where: its key.
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
    with suppress(ValidationError):  # as in YAML 1.1: yes, on, y and 1 for true, no, off, n and 0 for false
        return adapter.validate_python(TypeAdapter(bool).validate_python(value))
    raise UserError(_sentence(wrong, value, where))


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
    example = """'["1.10"]'""" if places[0] else """'"1.10"'"""
    hint = f"; a name that looks like a number, or that is null or true, needs quotes, as in {example}"
    is_name = isinstance(value, int | float) or (value is None and places[0])
    hint = hint if is_name and "string" in expected else ""
    typed = str(value) if isinstance(value, str | float) else json.dumps(value)
    return f"{where}={typed} must {be}{expected}{hint}."
