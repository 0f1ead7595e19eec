"""Augmentation beyond torchvision's own, which the configurations name directly."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F


class RandomAffine(nn.Module):
    """A small random rotation, shift and zoom of an image in memory, each uniform in its range.

    As torchvision's RandomAffine with bilinear interpolation and black borders, at a fraction of its cost for
    small images, of which a training step takes dozens.

    Args:
        degrees: largest rotation, either way.
        translate: largest shift along either side, either way, as a fraction of that side.
        scale: smallest and largest zoom; above 1 enlarges.
    """

    def __init__(self, degrees: float, translate: float, scale: Sequence[float]) -> None:
        super().__init__()
        self.degrees, self.translate = degrees, translate
        self.smallest, self.largest = scale

    def draw(self) -> tuple[float, float, float, float]:
        """Cosine and sine of the turn, both over the zoom; and the shift right and down, in half sides."""
        turn, right, down, zoom = torch.rand(4).tolist()
        angle = math.radians(self.degrees * (2 * turn - 1))
        size = self.smallest + (self.largest - self.smallest) * zoom
        x, y = 2 * self.translate * (2 * right - 1), 2 * self.translate * (2 * down - 1)
        return math.cos(angle) / size, math.sin(angle) / size, x, y

    def forward(self, image: UInt8[Tensor, "C H W"] | Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The warped image, in [0, 1]."""
        cos, sin, x, y = self.draw()
        # The inverse map, from output to input, in coordinates that run from −1 to 1 along either side.
        height, width = image.shape[1:]
        x_W, y_H1 = _centres(width) - x, _centres(height)[:, None] - y
        # Not F.affine_grid: its matrix product wakes every thread of the process, for each small image.
        grid_HW2 = torch.stack(
            [cos * x_W + (sin * height / width) * y_H1, (-sin * width / height) * x_W + cos * y_H1], dim=-1
        )
        pixels = image if image.is_floating_point() else image / 255
        return F.grid_sample(pixels[None], grid_HW2[None], align_corners=False)[0]


def _centres(pixels: int) -> Float[Tensor, "N"]:
    """Where the centres of a side's pixels lie, when the side runs from −1 to 1."""
    return (2 * torch.arange(pixels) + 1) / pixels - 1
