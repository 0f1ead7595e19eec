"""A small convolutional network for small images."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from dml.models.embedder import Backbone, Embedder
from dml.models.preprocessing import Preprocessing
from dml.models.weights import Published, load_weights


class ConvNet(Backbone):
    """Four blocks of 3×3 convolution, batch norm, ReLU and 2×2 max pooling, 64 channels each.

    The few-shot field's small network (Vinyals et al., Matching Networks, NIPS 2016, section 4.1), except
    that pooling rounds up, so that images of any size have a map: 28×28 ends at 2×2, 8×8 at 1×1.

    Args:
        in_channels: channels of the images, 1 or 3.
    """

    out_channels = 64

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        widths = (in_channels, 64, 64, 64, 64)
        self.blocks = nn.Sequential(
            *(self.block(*pair) for pair in pairwise(widths)),
        )

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),  # batch norm has one
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        )

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 64 h w"]:
        return self.blocks(images)


def convnet_embedder(
    in_channels: int,
    embedding_dim: int | None = 64,
    pool: str = "max",
    weights: str | None = None,
    freeze_batchnorm: bool = False,
) -> Embedder:
    """An embedder on the small network, which takes pixels in [0, 1] as they are.

    Args:
        in_channels: channels of the images, 1 or 3.
        embedding_dim, pool, freeze_batchnorm: as in `Embedder`.
        weights: a file, or None; there are no ImageNet weights.
    """
    backbone = ConvNet(in_channels)
    load_weights(backbone, weights, Published(url=None))
    preprocessing = Preprocessing(mean=[0.0] * in_channels, std=[1.0] * in_channels)
    return Embedder(backbone, preprocessing, embedding_dim, pool, freeze_batchnorm)
