"""The small convolutional network of few-shot learning, for digits and characters."""

from itertools import pairwise
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dml.models.embedder import Backbone, Embedder
from dml.models.preprocessing import Preprocessing
from dml.models.weights import Published, load_weights


class ConvNet(Backbone):
    """Blocks of 3×3 convolution, batch norm, ReLU and 2×2 max pooling, 64 channels each.

    With four blocks it is the small network of few-shot learning (Vinyals et al., Matching Networks, NIPS 2016,
    section 4.1). Deviation: pooling rounds up, so images of any size give a map: 2×2 for 28×28, 1×1 for 8×8.

    Args:
        in_channels: channels of the images, 1 or 3.
        blocks: number of blocks; each halves the map.
        grid: side to which the map is max-pooled and then flattened into channels; this keeps the position of
            strokes, which global pooling discards. None leaves the map as it is.

    Attributes:
        out_channels: F, 64 or 64 · grid².
    """

    def __init__(self, in_channels: int, blocks: int = 4, grid: int | None = None) -> None:
        super().__init__()
        widths = (in_channels, *[64] * blocks)
        self.blocks = nn.Sequential(*(self.block(*pair) for pair in pairwise(widths)))
        self.grid = grid
        self.out_channels = 64 if grid is None else 64 * grid**2

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),  # batch norm adds a bias
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        )

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F h w"]:
        maps = self.blocks(images)
        if self.grid is None:
            return maps
        return F.adaptive_max_pool2d(maps, self.grid).flatten(1)[:, :, None, None]


def convnet_embedder(
    in_channels: int,
    embedding_dim: int | None = 64,
    pool: str = "max",
    weights: str | None = None,
    freeze_batchnorm: bool = False,
    blocks: Annotated[int, Field(ge=1, le=16)] = 4,
    grid: Annotated[int, Field(ge=1, le=16)] | None = None,
) -> Embedder:
    """An embedder on the small network, whose input is pixels in [0, 1] without normalisation.

    Args:
        in_channels, blocks, grid: as in `ConvNet`; the last two at most 16.
        embedding_dim, pool, freeze_batchnorm: as in `Embedder`.
        weights: a file, or None; there are no ImageNet weights.

    Raises:
        UserError: as in `load_weights` and `Embedder`.
    """
    backbone = ConvNet(in_channels, blocks, grid)
    preprocessing = Preprocessing(mean=[0.0] * in_channels, std=[1.0] * in_channels)
    embedder = Embedder(backbone, preprocessing, embedding_dim, pool, freeze_batchnorm)
    load_weights(backbone, weights, Published(url=None), embedder)
    return embedder
