"""A device that behaves as Apple's GPUs do where it matters here: no float64, and no mixing with tensors on the CPU.

`on_fake_mps(x)` gives tensors whose `device` is "meta", since torch need not be built for MPS here, and whose values
lie on the CPU. Used inside `FakeMPS()`, which also sees the factories such as `torch.arange(…, device=…)`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map


class OnMPS(Tensor):
    """A tensor that says it is elsewhere."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnMPS":
        if held.dtype == torch.float64:
            raise TypeError("MPS has no float64")
        size, stride = held.size(), held.stride()
        return Tensor._make_wrapper_subclass(
            cls, size, strides=stride, dtype=held.dtype, device="meta", requires_grad=held.requires_grad
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"OnMPS({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})


class FakeMPS(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})


def tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor))


def dispatched(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = list(tensors((args, kwargs)))
    device = kwargs.get("device")
    there = (
        any(isinstance(x, OnMPS) for x in given) if device is None else torch.device(device).type == "meta"
    )
    moves = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    here = [x for x in given if not isinstance(x, OnMPS) and x.ndim > 0]
    if there and here and not moves:
        raise RuntimeError(f"{func}: tensors on mps and on the CPU")
    plain = tree_map(lambda x: x.held if isinstance(x, OnMPS) else x, (args, kwargs))
    if device is not None:
        plain[1]["device"] = torch.device("cpu")
    out = func(*plain[0], **plain[1])
    # An operation in place gives back what it was given.
    held = {id(x.held): x for x in given if isinstance(x, OnMPS)}

    def back(x: Any) -> Any:
        if not isinstance(x, Tensor) or not there:
            return x
        return held[id(x)] if id(x) in held else OnMPS(x)

    return tree_map(back, out)


def on_fake_mps(x: Tensor) -> Tensor:
    return OnMPS(x.detach().clone())
