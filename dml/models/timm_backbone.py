"""Networks of timm as backbones, by name: convolutional ones and vision transformers."""

from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dml.errors import UserError
from dml.models.embedder import Backbone, Embedder
from dml.models.preprocessing import Preprocessing
from dml.models.weights import Published, load_weights

Tokens = Literal["class", "patches"]


class TimmBackbone(Backbone):
    """The features of a timm network, before its pooling and classifier.

    Args:
        name: timm's name of the network, for example "tf_efficientnet_lite0".
        tokens: of a transformer, the class token, as a map of one place, or the patches, a place each.
        pretrained: fetch timm's own weights.

    Attributes:
        features: the network without classifier; its keys are those of timm's checkpoints.

    Raises:
        UserError: timm is not installed, has no such network, or cannot fetch its weights.
    """

    def __init__(self, name: str, tokens: Tokens = "class", pretrained: bool = False) -> None:
        super().__init__()
        self.tokens = tokens
        self.features = _create(name, num_classes=0, pretrained=pretrained)
        self.out_channels = int(self.features.num_features)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F h w"]:
        found = self.features.forward_features(images)
        if found.ndim == 4:  # some transformers have the channels last
            return found if found.shape[1] == self.out_channels else found.permute(0, 3, 1, 2)
        prefix = int(getattr(self.features, "num_prefix_tokens", 0))
        chosen = found[:, :1] if self.tokens == "class" and prefix else found[:, prefix:]
        return chosen.transpose(1, 2)[..., None]

    def classifier_keys(self, name: str) -> set[str]:
        """The keys of a checkpoint of timm's that `features` does not have."""
        with torch.device("meta"):
            return {*_create(name).state_dict()} - {*self.features.state_dict()}


def _create(name: str, **options: Any) -> Any:
    """A network of timm; a plain vision transformer takes images of any size."""
    if find_spec("timm") is None:
        raise UserError('model=timm needs timm: pip install "dml[timm]".')
    import timm

    if not timm.is_model(name):
        close = ", ".join(get_close_matches(name, timm.list_models())) or "vit_small_patch16_224, …"
        raise UserError(f"timm has no network {name!r} (model.name): did you mean {close}?")
    if timm.model_entrypoint(name).__module__ == "timm.models.vision_transformer":
        options |= {"dynamic_img_size": True, "dynamic_img_pad": True}
    try:
        return timm.create_model(name, **options)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"model.name={name}: timm cannot make the network ({str(error).splitlines()[0]}); without a connection "
            "give model.weights=<file> or null."
        ) from error


def timm_embedder(
    name: str,
    embedding_dim: int | None = 512,
    pool: str = "mean",
    tokens: Tokens = "class",
    weights: str | None = "imagenet",
    freeze_batchnorm: bool = True,
) -> Embedder:
    """An embedder on a network of timm, with the network's own mean and standard deviation.

    Args:
        name, tokens: as in `TimmBackbone`.
        embedding_dim, pool, freeze_batchnorm: as in `Embedder`; the class token alone leaves nothing to pool.
        weights: "imagenet" for the weights that timm publishes under this name; a file with a state dict of timm's
            network; a checkpoint of `dml.train`; None for random ones.

    Raises:
        UserError: as in `TimmBackbone`, `load_weights` and `Embedder`.
    """
    backbone = TimmBackbone(name, tokens, pretrained=weights == "imagenet")
    from timm.data import resolve_model_data_config

    convention = resolve_model_data_config(backbone.features)
    preprocessing = Preprocessing(convention["mean"], convention["std"])
    embedder = Embedder(backbone, preprocessing, embedding_dim, pool, freeze_batchnorm)
    if weights not in (None, "imagenet"):
        load_weights(backbone.features, weights, Published(None, backbone.classifier_keys(name)), embedder)
    return embedder
