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
    small images, of which hundreds pass in every training step.

    Args:
        degrees: largest rotation, either way.
        translate: largest shift along either side, either way, as a fraction of that side.
        scale: smallest and largest zoom; above 1 enlarges.
    """

    def __init__(self, degrees: float, translate: float, scale: Sequence[float]) -> None:
        super().__init__()
        self.degrees, self.translate, self.scale = degrees, translate, scale

    def forward(self, image: UInt8[Tensor, "C H W"] | Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The warped image, in [0, 1]."""
        turn, right, down, zoom = torch.rand(4).tolist()
        angle = math.radians(self.degrees * (2 * turn - 1))
        size = self.scale[0] + (self.scale[1] - self.scale[0]) * zoom
        # Rows of the inverse map, from output to input coordinates, which run from −1 to 1 along either side.
        cos, sin = math.cos(angle) / size, math.sin(angle) / size
        shift_x, shift_y = (2 * self.translate * (2 * u - 1) for u in (right, down))
        inverse = torch.tensor([[[cos, sin, shift_x], [-sin, cos, shift_y]]])
        pixels = image[None] if image.is_floating_point() else image[None] / 255
        grid = F.affine_grid(inverse, list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels, grid, align_corners=False)[0]
