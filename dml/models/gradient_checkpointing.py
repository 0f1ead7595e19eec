"""Gradient checkpointing: blocks keep their inputs alone and are computed again in backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def checkpoint_blocks(network: nn.Module) -> int:
    """Let the blocks of a network be computed again in backward, in place; returns their number.

    Keys and training mode stay as they are, and so do values and gradients.
    """
    while len(children := list(network.children())) == 1:  # what is around the network
        network = children[0]
    found = list(blocks(network))
    for block in found:
        block.forward = recomputed(block.forward, block)
    return len(found)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules that consist of others and are no mere container of such modules.

    Examples are a ResNet's residual blocks, SqueezeNet's Fire modules and a transformer's blocks. VGG and AlexNet,
    a sequence of layers, have none.
    """
    for child in network.children():
        if isinstance(child, CONTAINERS) and any(list(member.children()) for member in child.children()):
            yield from blocks(child)
        elif list(child.children()) and not isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield child


def recomputed(forward: Callable[..., Any], module: nn.Module) -> Callable[..., Any]:
    """A function of a module that keeps its arguments alone and is computed again in backward, with equal results.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174. torch repeats random draws;
    the running statistics of batch norm move once, in forward.
    """
    return partial(_checkpointed, forward, module)


def _checkpointed(forward: Callable[..., Any], module: nn.Module, *arguments: Any, **named: Any) -> Any:
    # DenseNet appends to its lists later; torch.compile keeps track of statistics by itself.
    arguments = tuple(list(a) if isinstance(a, list) else a for a in arguments)
    if not torch.compiler.is_compiling():
        # What surrounds forward, and what its repetition.
        named["context_fn"] = lambda: (nullcontext(), statistics_kept(module))
    return checkpoint(forward, *arguments, use_reentrant=False, **named)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Inside, the running statistics of batch norm stay as they are in training mode too."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, state in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = state
