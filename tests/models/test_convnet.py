"""The small network takes every small size."""

import pytest
import torch

from dml.errors import UserError
from dml.models import ConvNet, convnet_embedder


@pytest.mark.parametrize(("side", "map_side"), [(1, 1), (8, 1), (28, 2), (32, 2), (84, 6)])
@pytest.mark.parametrize("channels", [1, 3])
def test_map_rounds_up(side: int, map_side: int, channels: int) -> None:
    maps = ConvNet(channels).eval()(torch.rand(2, channels, side, side))
    assert maps.shape == (2, 64, map_side, map_side)


def test_four_blocks_of_sixty_four() -> None:
    # 3·3·1·64 + 3·(3·3·64·64) weights, and 2·64 of batch norm in each block
    assert sum(p.numel() for p in ConvNet(1).parameters()) == 576 + 3 * 36_864 + 4 * 128


def test_takes_pixels_as_they_are() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(convnet_embedder(in_channels=1).preprocessing(images), images)


def test_has_no_imagenet_weights() -> None:
    with pytest.raises(UserError, match=r"no ImageNet weights: set model\.weights"):
        convnet_embedder(in_channels=1, weights="imagenet")
