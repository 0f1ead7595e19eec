"""Gradient checkpointing: the same values, gradients and statistics, with less kept for backward."""

import copy

import pytest
import torch
from torch import Tensor

from dml.errors import UserError
from dml.models import BNInception, Embedder, Preprocessing, TorchvisionBackbone, convnet_embedder
from dml.models.embedder import Backbone


def embedder_of(name: str) -> Embedder:
    if name == "convnet":
        return convnet_embedder(3, 4)
    backbone: Backbone
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="needs timm")
        from dml.models.timm_backbone import TimmBackbone

        backbone = TimmBackbone(name.removeprefix("timm/"))
    else:
        backbone = BNInception() if name == "bninception" else TorchvisionBackbone(name)
    return Embedder(backbone, Preprocessing([0.5] * 3, [0.3] * 3), 4, "mean")


def step(embedder: Embedder) -> tuple[Tensor, int]:
    """Embeddings of a step with its backward, and the bytes that are kept for it."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)  # for dropout
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        z_BD = embedder(torch.rand(2, 3, 48, 48))
    z_BD[:, 0].sum().backward()
    return z_BD.detach(), sum(kept.values())


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("convnet", 0.3),
        ("bninception", 0.5),
        ("resnet18", 0.5),
        ("squeezenet1_0", 0.7),
        ("densenet121", 0.3),  # hands lists on that grow
        ("efficientnet_b0", 0.3),  # drops branches at random
        ("timm/tf_efficientnet_lite0", 0.3),
        ("timm/vit_tiny_patch16_224", 0.3),
    ],
)
def test_the_same_step_with_less_memory(name, share):
    torch.manual_seed(0)
    plain = embedder_of(name)
    embedder = copy.deepcopy(plain)
    embedder.backbone.checkpoint_gradients()
    embedder = copy.deepcopy(embedder)
    (z_BD, kept), (same_BD, kept_here) = step(plain), step(embedder)
    assert torch.equal(z_BD, same_BD)
    assert kept_here < share * kept
    for (key, value), (same_key, same) in zip(
        plain.state_dict().items(), embedder.state_dict().items(), strict=True
    ):
        assert key == same_key
        assert torch.equal(value, same)  # running statistics have moved once
    for parameter, twin in zip(plain.parameters(), embedder.parameters(), strict=True):
        assert (parameter.grad is None) == (twin.grad is None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, twin.grad)


def test_a_network_without_blocks():
    with pytest.raises(UserError, match=r"model\.checkpoint_gradients=true: .* without blocks"):
        embedder_of("alexnet").backbone.checkpoint_gradients()
