"""From an image's bytes to what a network takes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype

from dml.errors import UserError


class Preprocessing(nn.Module):
    """RGB images in [0, 1] to the input that a network was trained on: (scale · x − mean) / std.

    It belongs to the network, not to the data, so every dataset works with every network. Images of one channel
    are repeated to the network's number of channels. Checkpoints do not contain mean and std.

    Args:
        mean: mean of each channel, in the network's own order and scale.
        std: standard deviation of each channel, likewise.
        scale: value of a white pixel before the mean is subtracted, 1 or 255.
        bgr: the network's channel order is BGR, as in Caffe.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], scale: float = 1.0, bgr: bool = False
    ) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(mean).float()[:, None, None], persistent=False)
        self.std = nn.Buffer(torch.tensor(std).float()[:, None, None], persistent=False)
        self.scale, self.bgr = scale, bgr

    def forward(
        self, images: Float[Tensor, "B channels H W"] | UInt8[Tensor, "B channels H W"]
    ) -> Float[Tensor, "B C H W"]:
        """The network's input, (B, C, H, W).

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
        # Convolutions are fastest in channels-last memory format.
        images = in_unit_range(images, torch.promote_types(self.mean.dtype, torch.float32))
        images = images.to(memory_format=torch.channels_last)
        if self.bgr:
            images = images.flip(1)
        return ((images * self.scale - self.mean) / self.std).to(self.mean.dtype)


def in_unit_range(
    images: Float[Tensor, "*shape"] | UInt8[Tensor, "*shape"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*shape"]:
    """uint8 images, 0–255, as floats of type `dtype` in [0, 1]; float images unchanged."""
    return to_dtype(images, dtype, scale=True) if images.dtype == torch.uint8 else images
