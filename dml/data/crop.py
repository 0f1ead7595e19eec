"""Random crops at a fraction of torchvision's cost."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.nn import functional as F

TRIES = 10


class Crop(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


class RandomResizedCrop(nn.Module):
    """A random part of an image, resized to a square and mirrored left to right in half of all cases.

    Distributed as torchvision's RandomResizedCrop and RandomHorizontalFlip in turn: area and log aspect ratio
    are uniform in their ranges; a part that does not fit is drawn again, ten times at most; then it is the
    middle of the image. Bilinear with antialias.

    Args:
        size: side of the square, in pixels.
        scale: smallest and largest area of the part, as a share of the image's.
        ratio: smallest and largest aspect ratio of the part, width over height.
        mirror: probability of mirroring.
    """

    def __init__(
        self,
        size: int,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        mirror: float = 0.5,
    ) -> None:
        super().__init__()
        self.size, self.scale, self.ratio, self.mirror = size, tuple(scale), tuple(ratio), mirror

    def draw(self, height: int, width: int) -> Crop:
        """A random part of an image of this size."""
        # All numbers at once: each call of torch costs more than the arithmetic.
        top, left, mirror, *tries = torch.rand(3 + 2 * TRIES).tolist()
        (small, large), (slim, wide) = self.scale, (math.log(ratio) for ratio in self.ratio)
        for area, shape in zip(tries[::2], tries[1::2], strict=True):
            target = height * width * (small + (large - small) * area)
            ratio = math.exp(slim + (wide - slim) * shape)
            w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
            if 0 < w <= width and 0 < h <= height:
                return Crop(
                    int(top * (height - h + 1)), int(left * (width - w + 1)), h, w, mirror < self.mirror
                )
        return self._middle(height, width, mirror < self.mirror)

    def _middle(self, height: int, width: int, mirrored: bool) -> Crop:
        """The largest middle part with an allowed aspect ratio."""
        h = min(height, round(width / self.ratio[0]))
        w = min(width, round(height * self.ratio[1]))
        return Crop((height - h) // 2, (width - w) // 2, h, w, mirrored)

    def _cut(self, image: Tensor) -> tuple[Tensor, Crop]:
        """A random part (1, C, h, w), still in the image's memory."""
        channels, rows, columns = image.shape
        top, left, height, width, _ = crop = self.draw(rows, columns)
        # By one call of torch: each of its slices, and a new first dimension, takes as long.
        start = image.storage_offset() + top * image.stride(1) + left * image.stride(2)
        return image.as_strided((1, channels, height, width), (image.numel(), *image.stride()), start), crop

    def forward(self, image: UInt8[Tensor, "C H W"]) -> UInt8[Tensor, "C size size"]:
        """The part, resized."""
        part, crop = self._cut(image)
        # Mirrored first: that costs no pass, for what is to be resized is made contiguous anyway.
        part = part.flip(-1) if crop.mirrored else part
        return F.interpolate(part, (self.size, self.size), mode="bilinear", antialias=True)[0]
