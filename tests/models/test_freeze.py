"""Freezing: what a stage is, and that what is frozen neither learns nor moves its statistics."""

import pytest
import torch
from hydra.utils import get_object

from dml.config.build import build_module
from dml.config.check import check_config
from dml.errors import UserError
from dml.models import Embedder, Preprocessing, convnet_embedder
from dml.models.freeze import freeze, stages


def changed_by_a_step(embedder: Embedder) -> set[str]:
    """Names of the parts whose parameters or statistics a step of training changes."""
    before = {key: value.clone() for key, value in embedder.state_dict().items()}
    learnt = [parameter for parameter in embedder.parameters() if parameter.requires_grad]
    embedder.eval().train()
    embedder(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))[:, 0].sum().backward()
    torch.optim.SGD(learnt, lr=1.0).step()
    changed = [key for key, value in embedder.state_dict().items() if not torch.equal(value, before[key])]
    return {".".join(key.split(".")[:3]) if "blocks" in key else "head" for key in changed}


def test_the_first_stages_keep_parameters_and_statistics():
    embedder = convnet_embedder(1, 5)
    freeze(embedder, 2)
    assert changed_by_a_step(embedder) == {"backbone.blocks.2", "backbone.blocks.3", "head"}


def test_a_frozen_backbone_leaves_the_head():
    embedder = convnet_embedder(1, 5)
    freeze(embedder, "backbone")
    assert changed_by_a_step(embedder) == {"head"}


def test_nothing_is_frozen_by_default():
    embedder = convnet_embedder(1, 5)
    freeze(embedder, None)
    assert changed_by_a_step(embedder) == {"head", *(f"backbone.blocks.{i}" for i in range(4))}


@pytest.mark.parametrize(
    ("target", "arguments", "number", "first"),
    [
        ("dml.models.BNInception", {}, 12, ["conv1_7x7_s2", "conv1_7x7_s2_bn"]),
        ("dml.models.ConvNet", {"in_channels": 3}, 4, ["blocks.0.0", "blocks.0.1"]),
        ("dml.models.TorchvisionBackbone", {"name": "resnet18"}, 5, ["features.conv1", "features.bn1"]),
        ("dml.models.TorchvisionBackbone", {"name": "squeezenet1_0"}, 9, ["features.features.0"]),
        ("dml.models.TorchvisionBackbone", {"name": "swin_t"}, 8, ["features.features.0.0", "features.features.0.2"]),
        ("timm", {"name": "tf_efficientnet_lite0"}, 8, ["features.conv_stem", "features.bn1"]),
        ("timm", {"name": "convnext_atto"}, 5, ["features.stem.0", "features.stem.1"]),
        ("timm", {"name": "vit_tiny_patch16_224"}, 13, ["features", "features.patch_embed.proj"]),
    ],
)  # fmt: skip
def test_the_stages_of_a_network(target, arguments, number, first):
    if target == "timm":
        pytest.importorskip("timm", reason="needs timm")
        target = "dml.models.timm_backbone.TimmBackbone"
    with torch.device("meta"):
        backbone = get_object(target)(**arguments)
        embedder = Embedder(backbone, Preprocessing([0.0] * 3, [1.0] * 3), 4, "mean")
    found = stages(embedder)
    assert len(found) == number
    assert sum(map(len, found)) == len(list(backbone.parameters()))
    names = {id(parameter): name.rpartition(".")[0] for name, parameter in backbone.named_parameters()}
    assert list(dict.fromkeys(names[id(parameter)] for parameter in found[0])) == first


def test_more_stages_than_there_are():
    with pytest.raises(UserError, match=r"model\.freeze=5 is more than the 4 stages of this network"):
        freeze(convnet_embedder(1), 5)


@pytest.mark.parametrize("value", ["0", "-1", "head", "true", "1.5"])
def test_what_is_no_stage_is_refused(compose, value):
    with pytest.raises(UserError, match=r"model\.freeze="):
        check_config(compose(f"model.freeze={value}"))


def test_the_optimiser_has_no_frozen_parameter(compose):
    module = build_module(compose("model.freeze=backbone", "loss=proxy_anchor"), num_classes=3)
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [group["name"] for group in groups] == ["head", "loss"]
    assert all(parameter.requires_grad for group in groups for parameter in group["params"])


@pytest.mark.parametrize("value", ["backbone", "2"])
def test_nothing_to_train(compose, value):
    overrides = (f"model.freeze={value}", "model.embedding_dim=null")
    with pytest.raises(UserError, match=rf"model\.freeze={value} leaves nothing to train: .* no head"):
        build_module(compose(*overrides), num_classes=3)
    learnt = ("loss=proxy_anchor", "loss.embedding_dim=256")
    build_module(compose(*overrides, *learnt), num_classes=3)
