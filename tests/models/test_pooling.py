"""Pooling of a 2×2 map, worked out by hand."""

import pytest
import torch

from dml.errors import UserError
from dml.models.pooling import GlobalPool


@pytest.mark.parametrize(
    ("pool", "answer"), [("max", [4.0, 0.0]), ("mean", [2.5, -2.0]), ("sum", [6.5, -2.0])]
)
def test_two_by_two(pool: str, answer: list[float]) -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [-3.0, -4.0]]]])
    assert GlobalPool(pool)(maps).tolist() == [answer]


def test_unknown_pooling() -> None:
    with pytest.raises(UserError, match=r"model\.pool must be max, mean or sum \(of both\), not 'avg'"):
        GlobalPool("avg")
