"""Arguments held against the signatures of what they configure, before anything is built."""

import inspect
from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from dml.errors import UserError

# A word that Python keeps to itself; the argument is called otherwise.
RENAMED = {"lambda": "lam"}
UNIONS = (Union, UnionType)


def check_numbers(node: Any, path: str = "") -> None:
    """Raise UserError for anything but a number where the target of a `_target_` says `int` or `float`.

    null and `???` are left to whoever reads them, and so is what the signature leaves open.

    Args:
        node: plain containers, interpolations replaced.
        path: the node's own key, such as "loss".
    """
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    for key, kinds in number_arguments(node.get("_target_")):
        value = node.get(key)
        if value in (None, "???"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float if float in kinds else int):
            kind = "number" if float in kinds else "whole number"
            raise UserError(f"{path}.{key}={value} must be a {kind}.")
    for key, value in node.items():
        check_numbers(value, f"{path}.{key}" if path else str(key))


def number_arguments(target: Any) -> Iterator[tuple[str, list[type]]]:
    """The keys of a target's arguments that are numbers, each with `int` or `float`."""
    for name, parameter in signature(target).items():
        kind = parameter.annotation
        kinds = [k for k in get_args(kind) if k is not NoneType] if get_origin(kind) in UNIONS else [kind]
        if kinds and all(k in (int, float) for k in kinds):
            yield next((key for key, other in RENAMED.items() if other == name), name), kinds


def signature(target: Any) -> Mapping[str, inspect.Parameter]:
    """The target's parameters; none where it is no target, cannot be found or does not tell."""
    if not isinstance(target, str):
        return {}
    try:
        return inspect.signature(resolve_name(target)).parameters
    except (ImportError, AttributeError, TypeError, ValueError):
        return {}  # whoever builds it says what is wrong
