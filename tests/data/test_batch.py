"""Batches as the network gets them."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from dml.data.batch import PIECE, finished


@pytest.mark.parametrize("count", [1, PIECE, 2 * PIECE + 3])
def test_bytes_become_the_floats_that_torchvision_makes_of_them(count: int) -> None:
    """Every byte, whether the pieces come out even or not, and whatever the layout."""
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(count, 3, 1, 1)
    for laid in (images, images.contiguous(memory_format=torch.channels_last)):
        image = finished({"image": laid})["image"]
        assert image.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(image, F.to_dtype(images, torch.float32, scale=True))


def test_floats_stay_as_they_are_in_memory_of_their_own() -> None:
    images = torch.rand(3, 1, 4, 4)
    image = finished({"image": images})["image"]
    assert torch.equal(image, images)
    assert image.data_ptr() != images.data_ptr()
