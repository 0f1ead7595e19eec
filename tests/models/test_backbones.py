"""torchvision's networks, cut before their pooling."""

import copy
from pathlib import Path

import pytest
import torch
from torchvision import models
from torchvision.ops import StochasticDepth

from dml.errors import UserError
from dml.models import TorchvisionBackbone, torchvision_embedder


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [
        ("alexnet", 256, 2),
        ("convnext_tiny", 768, 3),
        ("densenet121", 1024, 3),
        ("efficientnet_b0", 1280, 3),
        ("googlenet", 1024, 3),
        ("inception_v3", 2048, 1),
        ("mnasnet0_5", 1280, 3),
        ("mobilenet_v2", 1280, 3),
        ("mobilenet_v3_small", 576, 3),
        ("resnet18", 512, 3),
        ("resnext50_32x4d", 2048, 3),
        ("shufflenet_v2_x0_5", 1024, 3),
        ("squeezenet1_0", 512, 5),
        ("swin_t", 768, 3),
        ("vgg16_bn", 512, 3),
        ("wide_resnet50_2", 2048, 3),
    ],
)
def test_every_family_has_a_feature_map(name: str, channels: int, side: int) -> None:
    with torch.device("meta"):  # shapes without arithmetic
        backbone = TorchvisionBackbone(name)
        maps = backbone(torch.rand(1, 3, 96, 96))
    assert maps.shape == (1, backbone.out_channels, side, side) == (1, channels, side, side)


@pytest.mark.parametrize(
    "name", ["resnet18", "densenet121", "regnet_y_400mf", "shufflenet_v2_x0_5", "swin_t"]
)
def test_mean_of_the_map_is_what_the_classifier_takes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.get_model(name, weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "full.pth")
    embedder = torchvision_embedder(name, None, weights=str(tmp_path / "full.pth")).eval()
    *_, (_, classifier) = network.named_children()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = embedder.backbone(images).mean(dim=(2, 3))
        torch.testing.assert_close(classifier(features), network(images), rtol=1e-4, atol=1e-4)


def test_squeezenets_classifier_takes_the_map(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.squeezenet1_0(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "full.pth")
    embedder = torchvision_embedder("squeezenet1_0", weights=str(tmp_path / "full.pth")).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        logits = network.classifier(embedder.backbone(images)).flatten(1)
        torch.testing.assert_close(logits, network(images))


def test_only_the_classifier_is_left_out() -> None:
    assert TorchvisionBackbone("resnet18").classifier_keys == {"fc.weight", "fc.bias"}
    assert {key.split(".")[0] for key in TorchvisionBackbone("googlenet").classifier_keys} == {
        "aux1",
        "aux2",
        "fc",
    }


def test_children_still_tell_training_from_evaluation() -> None:
    with torch.device("meta"):
        backbone = TorchvisionBackbone("efficientnet_b0")  # drops residual branches at random in training
    # As modules they obey their flag, also where Lightning restores flags without calling train().
    drops = [module for module in backbone.modules() if isinstance(module, StochasticDepth)]
    assert len(drops) == 16  # one in each of its blocks
    assert all(drop.training for drop in backbone.train().modules() if isinstance(drop, StochasticDepth))


def test_a_copy_computes_the_same() -> None:
    backbone = TorchvisionBackbone("squeezenet1_1").eval()
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(copy.deepcopy(backbone)(images), backbone(images))


def test_input_convention_does_not_hang_on_the_weights() -> None:
    preprocessing = torchvision_embedder("squeezenet1_0", weights=None).preprocessing
    torch.testing.assert_close(preprocessing.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(preprocessing.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))


def test_googlenet_always_takes_imagenets_mean() -> None:
    torch.manual_seed(0)
    backbone = TorchvisionBackbone("googlenet").eval()
    network = models.googlenet(weights=None, transform_input=True, init_weights=False).eval()
    network.load_state_dict(backbone.features.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.fc(backbone(images).mean(dim=(2, 3))), network(images))


def test_vision_transformer() -> None:
    with torch.device("meta"), pytest.raises(UserError, match=r"vit_b_32 has no feature map .* model=timm"):
        TorchvisionBackbone("vit_b_32")


def test_unknown_name() -> None:
    with pytest.raises(UserError, match=r"no classification network 'resnet5' .* did you mean .*resnet50"):
        TorchvisionBackbone("resnet5")


def test_detectors_are_no_classifiers() -> None:
    with pytest.raises(UserError, match="no classification network"):
        TorchvisionBackbone("fasterrcnn_resnet50_fpn")


def test_real_weights_tell_images_apart(shared_dir: Path) -> None:
    file = str(shared_dir / "weights" / "squeezenet1_0-imagenet.pth")
    torch.manual_seed(0)
    pretrained, fresh = (torchvision_embedder("squeezenet1_0", None, weights=w).eval() for w in (file, None))
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(pretrained(images), fresh(images), atol=0.1)
