"""Memory that is used again only when nobody has it any more."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dml.data.reused import KEPT, Reused

SHAPE = (5, 7)


def test_what_nobody_has_any_more_is_used_again() -> None:
    memory = Reused()
    first = memory.empty(SHAPE, torch.float32).data_ptr()
    assert memory.empty(SHAPE, torch.float32).data_ptr() == first
    smaller = memory.empty((3,), torch.uint8)
    assert (smaller.data_ptr(), smaller.shape, smaller.dtype) == (first, (3,), torch.uint8)


@pytest.mark.parametrize(
    "part",
    [
        lambda t: t,
        lambda t: t[2:, 3],
        lambda t: t.T.unsqueeze(0),
        lambda t: t.detach(),
        lambda t: t.numpy()[1:],
    ],
)
def test_no_part_of_what_somebody_has_is_used_again(part: Callable[[Tensor], Any]) -> None:
    memory = Reused()
    held = part(memory.empty(SHAPE, torch.float32).fill_(1))
    memory.empty(SHAPE, torch.float32).fill_(2)
    assert (torch.from_numpy(held) if isinstance(held, np.ndarray) else held).eq(1).all()
    kept = held.copy() if isinstance(held, np.ndarray) else held.clone()
    del held
    memory.empty(SHAPE, torch.float32).fill_(3)
    assert (kept == 1).all()


def test_what_a_gradient_needs_is_not_used_again() -> None:
    memory, weight = Reused(), torch.ones(7, requires_grad=True)
    loss = (memory.empty(SHAPE, torch.float32).fill_(1) * weight).sum()
    memory.empty(SHAPE, torch.float32).fill_(2)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [5.0] * 7


def test_what_is_too_small_is_given_back_to_the_system() -> None:
    memory = Reused()
    memory.empty((4,), torch.float32)
    assert memory.empty(SHAPE, torch.float32).fill_(1).sum() == 35
    assert [len(free) for free in memory.free] == [4 * 35]


def test_no_more_is_kept_than_is_of_use() -> None:
    memory = Reused()
    held = [memory.empty(SHAPE, torch.float32).fill_(n) for n in range(KEPT + 3)]
    assert [int(tensor[0, 0]) for tensor in held] == list(range(KEPT + 3))
    held.clear()
    assert len(memory.free) == KEPT


def test_tensors_may_outlive_it() -> None:
    memory = Reused()
    tensor = memory.empty(SHAPE, torch.float32).fill_(1)
    del memory
    assert tensor.sum() == 35
