"""The embedder: images to embeddings of unit length."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dml.errors import UserError
from dml.models.pooling import GlobalPool
from dml.models.preprocessing import Preprocessing


class Backbone(nn.Module):
    """A network from images, (B, C, H, W), to a feature map, (B, F, h, w).

    Attributes:
        out_channels: F.
    """

    out_channels: int


def embedding_head(in_features: int, embedding_dim: int | None) -> nn.Linear | nn.Identity:
    """A linear map to the embedding, or the identity where `embedding_dim` is None.

    The weights are initialised Kaiming normal by fan-out, the bias with zero.

    Raises:
        UserError: `embedding_dim` is not positive.
    """
    if embedding_dim is None:
        return nn.Identity()
    if embedding_dim < 1:
        raise UserError(f"model.embedding_dim must be positive, or null for no head, not {embedding_dim}.")
    head = nn.Linear(in_features, embedding_dim)
    nn.init.kaiming_normal_(head.weight, mode="fan_out")
    nn.init.zeros_(head.bias)
    return head


class Embedder(nn.Module):
    """Images to L2-normalised embeddings.

        images ─► preprocessing ─► backbone ─► global pooling ─► linear head ─► z / |z|
        (B, C, H, W)              (B, F, h, w)     (B, F)            (B, D)        (B, D)

    The head's initialisation and the frozen batch norm are those of the released code of Wang et al., CVPR 2019.

    Args:
        backbone: network from preprocessed images to a feature map.
        preprocessing: the input convention of the backbone's weights.
        embedding_dim: D ≥ 1; None for no head, with D = F (the backbone's features as a baseline).
        pool: global pooling, "max", "mean" or "sum" of both.
        freeze_batchnorm: batch norm keeps its running statistics and normalises with them in training too; scale
            and shift are still learnt.

    Attributes:
        embedding_dim: D.

    Raises:
        UserError: `embedding_dim` or `pool` is out of range.
    """

    def __init__(
        self,
        backbone: Backbone,
        preprocessing: Preprocessing,
        embedding_dim: int | None,
        pool: str,
        freeze_batchnorm: bool = False,
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.backbone = backbone
        self.pool = GlobalPool(pool)
        self.head = embedding_head(backbone.out_channels, embedding_dim)
        self.embedding_dim = backbone.out_channels if embedding_dim is None else embedding_dim
        self.freeze_batchnorm = freeze_batchnorm
        self.train()

    def train(self, mode: bool = True) -> "Embedder":
        """Switch to training or evaluation mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.freeze_batchnorm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def feature_map(
        self, images: Float[Tensor, "B C H W"] | UInt8[Tensor, "B C H W"]
    ) -> Float[Tensor, "B F h w"]:
        """The backbone's feature map, (B, F, h, w); arguments and errors as in `forward`."""
        try:
            return self.backbone(self.preprocessing(images))
        except RuntimeError as error:
            # torch's two messages for a window that is larger than its map.
            if "too small" not in str(error) and "greater than actual input size" not in str(error):
                raise
            height, width = images.shape[2:]
            raise UserError(
                f"Images of {height}×{width} px are too small for this network: enlarge them, or choose a "
                "network for small images such as model=convnet."
            ) from error

    def forward(self, images: Float[Tensor, "B C H W"] | UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Embeddings of unit length, (B, D): float64 from a float64 network, else float32, under autocast too.

        Args:
            images: (B, C, H, W) or (B, 1, H, W), RGB in [0, 1], or in 0–255 as uint8.

        Raises:
            UserError: the images are too small for the backbone, or have the wrong number of channels.
        """
        z_BD = self.head(self.pool(self.feature_map(images)))
        return F.normalize(z_BD.to(torch.promote_types(z_BD.dtype, torch.float32)), dim=1)
