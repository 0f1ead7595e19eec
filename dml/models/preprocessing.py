"""The input convention of a network: what its weights take a pixel to be."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype

from dml.errors import UserError


class Preprocessing(nn.Module):
    """RGB images in [0, 1] to the numbers a network was trained on: (scale · x − mean) / std.

    It belongs to the network, not to the data, so that every dataset serves every network. Images of one
    channel are repeated into all the network's channels. Nothing here is stored in checkpoints.

    Args:
        mean: mean of each channel, in the network's own order and scale.
        std: standard deviation of each channel, likewise.
        scale: what a white pixel becomes before centring, 1 or 255.
        bgr: the network takes blue first, as Caffe's networks do.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], scale: float = 1.0, bgr: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).float()[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std).float()[:, None, None], persistent=False)
        self.scale, self.bgr = scale, bgr

    def forward(
        self, images: Float[Tensor, "B channels H W"] | UInt8[Tensor, "B channels H W"]
    ) -> Float[Tensor, "B C H W"]:
        """Images as the network takes them, (B, C, H, W).

        Args:
            images: (B, C, H, W) or (B, 1, H, W), RGB in [0, 1], or in 0–255 as uint8.

        Raises:
            UserError: the images have neither one channel nor as many as the network.
        """
        if images.shape[1] not in (1, len(self.mean)):
            raise UserError(
                f"The images have {images.shape[1]} channels and the network takes {len(self.mean)}: "
                "choose another model, or set its in_channels."
            )
        # Convolutions are fastest with channels last in memory.
        images = in_unit_range(images, torch.promote_types(self.mean.dtype, torch.float32))
        images = images.to(memory_format=torch.channels_last)
        if self.bgr:
            images = images.flip(1)
        return (images * self.scale - self.mean) / self.std


def in_unit_range(
    images: Float[Tensor, "*shape"] | UInt8[Tensor, "*shape"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*shape"]:
    """Images of 0–255 in uint8 as floats of that type in [0, 1]; floats as they are."""
    return to_dtype(images, dtype, scale=True) if images.dtype == torch.uint8 else images
