"""The mean of gradients over processes, whatever their layout."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from worlds import in_world

from dml.gradient_mean import mean_in_order_of_ranks

SIZE = 5  # Tensor.sum adds five rows in another order at the edge than in the middle


def gradient(of: int, length: int) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(of))


def means(folder: Path) -> dict[int, tuple[Tensor, Tensor]]:
    """Of gradients of several lengths, as they are and in reverse."""
    dist.init_process_group("gloo")
    own = {length: gradient(dist.get_rank(), length) for length in (1, 4, 1000, 1003)}
    return {
        length: (mean_in_order_of_ranks(g), mean_in_order_of_ranks(g.flip(0)).flip(0))
        for length, g in own.items()
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[int, tuple[Tensor, Tensor]]]:
    return in_world(SIZE, tmp_path_factory.mktemp("means"), means)


@pytest.mark.parametrize("length", [1, 4, 1000, 1003])  # fewer than processes, and what they do not divide
def test_each_number_is_added_in_the_order_of_ranks_wherever_it_stands(found, length):
    expected = gradient(0, length)
    for rank in range(1, SIZE):
        expected = expected + gradient(rank, length)
    for of_process in found:
        for mean in of_process[length]:
            assert torch.equal(mean, expected / SIZE)
