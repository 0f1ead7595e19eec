"""From images to embeddings: what all networks share around their backbone."""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dml.errors import UserError
from dml.models.gradient_checkpointing import checkpoint_blocks
from dml.models.preprocessing import Preprocessing

# Global pooling: a feature map (B, F, h, w) to one number per channel (B, F).
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda maps: maps.amax(dim=(2, 3)),
    "mean": lambda maps: maps.mean(dim=(2, 3)),
    "sum": lambda maps: maps.amax(dim=(2, 3)) + maps.mean(dim=(2, 3)),
}


class Backbone(nn.Module):
    """A network from images, (B, C, H, W), to a feature map, (B, F, h, w).

    Attributes:
        out_channels: F.
    """

    out_channels: int

    def checkpoint_gradients(self) -> None:
        """Trade time for memory in training: see `dml.models.gradient_checkpointing`.

        Raises:
            UserError: the network has no blocks.
        """
        if not checkpoint_blocks(self):
            raise UserError(
                "model.checkpoint_gradients=true: this network is one sequence of layers without blocks that could be "
                "computed again; leave it out."
            )


def learns(norm: _BatchNorm) -> bool:
    """Whether training changes a batch norm; one without scale and shift follows `Embedder.freeze_batchnorm` alone."""
    return not norm.affine or norm.weight.requires_grad


class Embedder(nn.Module):
    """Images to L2-normalised embeddings.

        images ─► preprocessing ─► backbone ─► global pooling ─► linear head ─► z / |z|
        (B, C, H, W)              (B, F, h, w)     (B, F)            (B, D)        (B, D)

    The head's initialisation (weights Kaiming normal by fan-out, bias zero) and the frozen batch norm are those of the
    released code of Wang et al., CVPR 2019.

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
        if pool not in POOLINGS:
            raise UserError(f"model.pool must be max, mean or sum (of both), not {pool!r}.")
        if embedding_dim is not None and embedding_dim < 1:
            raise UserError(
                f"model.embedding_dim must be positive, or null for no head, not {embedding_dim}."
            )
        self.preprocessing, self.backbone = preprocessing, backbone
        self.pool, self.freeze_batchnorm = pool, freeze_batchnorm
        self.embedding_dim = embedding_dim or backbone.out_channels
        self.head: nn.Module = nn.Identity()
        if embedding_dim is not None:
            self.head = nn.Linear(backbone.out_channels, embedding_dim)
            nn.init.kaiming_normal_(self.head.weight, mode="fan_out")
            nn.init.zeros_(self.head.bias)
        self.train()

    def train(self, mode: bool = True) -> "Embedder":
        """Switch to training or evaluation mode; frozen batch norm stays in evaluation mode.

        Batch norm is also frozen where its scale is, see `dml.models.freeze`.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm) and (self.freeze_batchnorm or not learns(module)):
                module.eval()
        return self

    def forward(
        self, images: Float[Tensor, "B C H W"] | UInt8[Tensor, "B C H W"], normalize: bool = True
    ) -> Float[Tensor, "B D"]:
        """Embeddings of unit length, (B, D): float64 from a float64 network, else float32, under autocast too.

        Args:
            images: (B, C, H, W) or (B, 1, H, W), RGB in [0, 1], or in 0–255 as uint8.
            normalize: false for the embeddings before they are normalised, as a regulariser of their lengths needs.

        Raises:
            UserError: the images are too small for the backbone, or have the wrong number of channels.
        """
        try:
            maps_BFhw = self.backbone(self.preprocessing(images))
        except RuntimeError as error:
            # torch's two messages for a window that is larger than its map.
            if "too small" not in str(error) and "greater than actual input size" not in str(error):
                raise
            height, width = images.shape[2:]
            raise UserError(
                f"Images of {height}×{width} px are too small for this network: enlarge them, or choose a "
                "network for small images such as model=convnet."
            ) from error
        z_BD = self.head(POOLINGS[self.pool](maps_BFhw))
        z_BD = z_BD.to(torch.promote_types(z_BD.dtype, torch.float32))
        return F.normalize(z_BD, dim=1) if normalize else z_BD
