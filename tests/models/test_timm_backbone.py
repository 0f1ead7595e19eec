"""Networks of timm: their features, tokens, input convention and weights; what cannot be made is one sentence."""

import pytest
import torch

from dml.errors import UserError

timm = pytest.importorskip("timm", reason="needs timm")

from dml.models.timm_backbone import TimmBackbone, timm_embedder  # noqa: E402

VIT = "vit_tiny_patch16_224"


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_convolutional_features_pool_to_timms_own(name):
    network = timm.create_model(name, num_classes=0).eval()
    backbone = TimmBackbone(name).eval()
    backbone.features.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = backbone(images)
        assert torch.allclose(
            maps.mean(dim=(2, 3)), network.forward_features(images).mean(dim=(2, 3)), atol=1e-6
        )
    assert maps.shape[1] == backbone.out_channels


def test_tokens_of_a_transformer():
    torch.manual_seed(0)
    backbone, patches = TimmBackbone(VIT).eval(), TimmBackbone(VIT, "patches").eval()
    patches.features = backbone.features
    images = torch.rand(2, 3, 64, 48)
    with torch.no_grad():
        tokens = backbone.features.forward_features(images)  # the class token, then 4 × 3 patches
        assert torch.equal(backbone(images)[:, :, 0, 0], tokens[:, 0])
        assert torch.equal(patches(images)[..., 0].mT, tokens[:, 1:])


def test_channels_come_first_whatever_the_network():
    backbone = TimmBackbone("swin_tiny_patch4_window7_224").eval()
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 224, 224)).shape == (1, backbone.out_channels, 7, 7)


def test_mean_and_deviation_are_the_networks_own():
    assert (
        timm_embedder("tf_efficientnet_lite0", 4, weights=None).preprocessing.mean.flatten().tolist()
        == [0.5] * 3
    )
    assert timm_embedder("resnet18", 4, weights=None).preprocessing.mean.flatten()[0] == pytest.approx(0.485)


def test_a_file_of_the_whole_network_fits_and_of_another_does_not(tmp_path):
    network = timm.create_model(VIT)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    embedder = timm_embedder(VIT, 4, weights=str(tmp_path / "vit.pth"))
    assert torch.equal(embedder.backbone.features.cls_token, network.cls_token)
    with pytest.raises(UserError, match="does not fit this network"):
        timm_embedder("resnet18", 4, weights=str(tmp_path / "vit.pth"))


def test_a_mistyped_name_and_a_missing_package_are_one_sentence(monkeypatch):
    with pytest.raises(UserError, match=r"no network 'resnet19' .* did you mean .*resnet18"):
        TimmBackbone("resnet19")
    monkeypatch.setattr("dml.models.timm_backbone.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "dml\[timm\]"'):
        TimmBackbone("resnet18")
