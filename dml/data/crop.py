"""Random crops at a fraction of torchvision's cost, one at a time or, in two halves, of a batch on its device."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
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
    middle of the image. Bilinear with antialias; in two halves, for a device, without antialias, which lets
    parts much larger than `size` look sharper.

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

    def begin(self, image: UInt8[Tensor, "C H W"]) -> tuple[UInt8[Tensor, "C h w"], Float[Tensor, "3"]]:
        """The part at its own size; its height and width, and 1 if it is to be mirrored."""
        part, crop = self._cut(image)
        return part[0], torch.tensor([crop.height, crop.width, crop.mirrored], dtype=torch.float32)

    def gather(self, parts: list[Tensor]) -> UInt8[Tensor, "B C h w"]:
        """The parts in the upper left corners of frames of one size."""
        h, w = (max(part.shape[side] for part in parts) for side in (1, 2))
        frames = parts[0].new_zeros(len(parts), parts[0].shape[0], h, w)
        for frame, part in zip(frames, parts, strict=True):
            frame[:, : part.shape[1], : part.shape[2]] = part
        return frames

    def finish(
        self, parts: UInt8[Tensor, "B C h w"], numbers: Float[Tensor, "B 3"]
    ) -> Float[Tensor, "B C size size"]:
        """Every part resized and mirrored."""
        h_B1, w_B1, mirrored_B1 = numbers.unsqueeze(2).unbind(1)
        centre_S = (torch.arange(self.size, device=parts.device) + 0.5) / self.size
        # Clamped: beyond the part's outermost pixels lies another part's padding.
        y_BS = (centre_S * h_B1 - 0.5).clamp(min=0).minimum(h_B1 - 1)
        x_BS = (centre_S * w_B1 - 0.5).clamp(min=0).minimum(w_B1 - 1)
        x_BS = torch.where(mirrored_B1 > 0, x_BS.flip(1), x_BS)
        height, width = parts.shape[-2:]
        x_BS, y_BS = 2 * x_BS / max(width - 1, 1) - 1, 2 * y_BS / max(height - 1, 1) - 1
        shape = (-1, self.size, self.size)
        grid_BSS2 = torch.stack([x_BS[:, None].expand(shape), y_BS[:, :, None].expand(shape)], dim=-1)
        return F.grid_sample(parts / 255, grid_BSS2, align_corners=True, padding_mode="border")
