"""BN-Inception, the network of the papers, with Caffe's weights and input convention."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dml.models.embedder import Backbone, Embedder
from dml.models.gradient_checkpointing import recomputed
from dml.models.preprocessing import Preprocessing
from dml.models.weights import Published, load_weights

# The Caffe network's weights, ported to PyTorch by R. Cadene.
IMAGENET = Published(
    "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
    surplus=("last_linear.weight", "last_linear.bias"),
)


class Inception(NamedTuple):
    """Channels of an Inception block's four branches, which the output concatenates.

    A block without a 1×1 branch halves the map: its 3×3 branches end with stride 2, and its pooling branch has no
    convolution.
    """

    name: str
    inputs: int
    one: int  # 1×1
    three_reduce: int  # 1×1 → 3×3
    three: int
    double_reduce: int  # 1×1 → 3×3 → 3×3
    double: int
    pool: str  # 3×3 pooling → 1×1
    pool_proj: int

    @property
    def stride(self) -> int:
        return 1 if self.one else 2


# Ioffe & Szegedy 2015, figure 5.
BLOCKS = (
    #         name   in   1×1  3×3      double   pool
    Inception("3a", 192, 64, 64, 64, 64, 96, "mean", 32),
    Inception("3b", 256, 64, 64, 96, 64, 96, "mean", 64),
    Inception("3c", 320, 0, 128, 160, 64, 96, "max", 0),
    Inception("4a", 576, 224, 64, 96, 96, 128, "mean", 128),
    Inception("4b", 576, 192, 96, 128, 96, 128, "mean", 128),
    Inception("4c", 576, 160, 128, 160, 128, 160, "mean", 128),
    Inception("4d", 608, 96, 128, 192, 160, 192, "mean", 128),
    Inception("4e", 608, 0, 128, 192, 192, 256, "max", 0),
    Inception("5a", 1056, 352, 192, 320, 160, 224, "mean", 128),
    Inception("5b", 1024, 352, 192, 320, 192, 224, "max", 128),
)


def halve(maps: Float[Tensor, "B F H W"]) -> Float[Tensor, "B F h w"]:
    """3×3 max pooling with stride 2; as in Caffe, sizes are rounded up, so the last window may cross the edge."""
    return F.max_pool2d(maps, 3, stride=2, ceil_mode=True)


def even(maps: Float[Tensor, "B F H W"]) -> Float[Tensor, "B F h w"]:
    """Pads an odd height or width with zeros to an even one; the maps must not be negative.

    Without padding, `halve` of an odd map is one pixel smaller than the 3×3 convolutions with stride 2 in the same
    block, and the published network fails (images of 112 px). For images of 224 and 227 px these maps are even.
    """
    height, width = maps.shape[2:]
    return F.pad(maps, (0, width % 2, 0, height % 2))


class BNInception(Backbone):
    """BN-Inception, the backbone of most published results: images of 224 or 227 px to maps of (B, 1024, 7, 7).

    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, figure 5, in the layout of its Caffe release:
    convolutions have a bias although batch norm follows, and pooling rounds up. The 10,270,240 parameters are those
    of the published `bn_inception-52deb4733.pth`, with its names and shapes, without the classifier.
    """

    out_channels = 1024

    def __init__(self) -> None:
        super().__init__()
        self.add_unit("conv1_7x7_s2", 3, 64, kernel=7, stride=2)
        self.add_unit("conv2_3x3_reduce", 64, 64, kernel=1)
        self.add_unit("conv2_3x3", 64, 192, kernel=3)
        for block in BLOCKS:
            self.add_block(block)

    def add_unit(self, name: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        """A convolution and its batch norm, under the published names."""
        self.add_module(name, nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def add_block(self, block: Inception) -> None:
        name = f"inception_{block.name}"
        if block.one:
            self.add_unit(f"{name}_1x1", block.inputs, block.one, kernel=1)
        self.add_unit(f"{name}_3x3_reduce", block.inputs, block.three_reduce, kernel=1)
        self.add_unit(f"{name}_3x3", block.three_reduce, block.three, kernel=3, stride=block.stride)
        self.add_unit(f"{name}_double_3x3_reduce", block.inputs, block.double_reduce, kernel=1)
        self.add_unit(f"{name}_double_3x3_1", block.double_reduce, block.double, kernel=3)
        self.add_unit(f"{name}_double_3x3_2", block.double, block.double, kernel=3, stride=block.stride)
        if block.pool_proj:
            self.add_unit(f"{name}_pool_proj", block.inputs, block.pool_proj, kernel=1)

    def units(self, x: Float[Tensor, "B C H W"], *names: str) -> Float[Tensor, "B F h w"]:
        """Units of convolution, batch norm and ReLU, applied in sequence."""
        for name in names:
            x = F.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)))
        return x

    def pooled(self, x: Float[Tensor, "B C H W"], block: Inception) -> Float[Tensor, "B F h w"]:
        """An Inception block's pooling branch."""
        if block.stride == 2:
            return halve(even(x))
        pool = F.max_pool2d if block.pool == "max" else F.avg_pool2d
        return self.units(pool(x, 3, stride=1, padding=1), f"inception_{block.name}_pool_proj")

    def inception(self, x: Float[Tensor, "B C H W"], block: Inception) -> Float[Tensor, "B F h w"]:
        """An Inception block: its branches, concatenated."""
        name = f"inception_{block.name}"
        branches = [self.units(x, f"{name}_1x1")] if block.one else []
        branches.append(self.units(x, f"{name}_3x3_reduce", f"{name}_3x3"))
        double = (f"{name}_double_3x3_{part}" for part in ("reduce", "1", "2"))
        branches.append(self.units(x, *double))
        branches.append(self.pooled(x, block))
        return torch.cat(branches, dim=1)

    def checkpoint_gradients(self) -> None:
        """The Inception blocks, which are no modules, are computed again in backward."""
        self.inception = recomputed(self.inception, self)  # type: ignore[method-assign]

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1024 h w"]:
        """Feature map of BGR images in 0–255 with the mean subtracted."""
        x = halve(self.units(images, "conv1_7x7_s2"))
        x = halve(self.units(x, "conv2_3x3_reduce", "conv2_3x3"))
        for block in BLOCKS:
            x = self.inception(x, block)
        return x


def bninception_embedder(
    embedding_dim: int | None = 512,
    pool: str = "max",
    weights: str | None = "imagenet",
    freeze_batchnorm: bool = True,
) -> Embedder:
    """An embedder on BN-Inception; the arguments are those of `Embedder` and `load_weights`."""
    backbone = BNInception()
    preprocessing = Preprocessing(mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), scale=255.0, bgr=True)
    embedder = Embedder(backbone, preprocessing, embedding_dim, pool, freeze_batchnorm)
    load_weights(backbone, weights, IMAGENET, embedder)
    return embedder
