"""The embedder: unit length, the head's recipe, and batch norm that stays frozen."""

import copy

import pytest
import torch
from torch import nn

from dml.errors import UserError
from dml.losses import MultiSimilarityLoss
from dml.models import Embedder, convnet_embedder, torchvision_embedder
from dml.models.embedder import POOLINGS


def statistics(embedder: Embedder) -> dict[str, torch.Tensor]:
    return {k: t.clone() for k, t in embedder.state_dict().items() if "running" in k or "num_batches" in k}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("embedding_dim", [1, 5, None])
def test_embeddings_have_unit_length(images: torch.Tensor, embedding_dim: int | None) -> None:
    embedder = convnet_embedder(1, embedding_dim)
    z_BD = embedder(images)
    assert z_BD.shape == (4, embedder.embedding_dim) == (4, embedding_dim or 64)
    torch.testing.assert_close(z_BD.norm(dim=1), torch.ones(4))


def test_embeddings_before_normalisation_have_the_same_directions(images: torch.Tensor) -> None:
    embedder = convnet_embedder(1)
    f_BD = embedder(images, normalize=False)
    assert (f_BD.norm(dim=1) - 1).abs().min() > 1e-3
    assert torch.equal(torch.nn.functional.normalize(f_BD), embedder(images))


def test_embeddings_are_float32_and_of_unit_length_under_autocast(images: torch.Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z_BD = convnet_embedder(1)(images)
    assert z_BD.dtype == torch.float32
    torch.testing.assert_close(z_BD.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("images", [torch.rand(4, 3, 8, 8).double(), torch.randint(256, (4, 3, 8, 8)).byte()])
def test_a_float64_network_embeds_and_learns_in_float64(images: torch.Tensor) -> None:
    embedder = convnet_embedder(3).double()
    z_BD = embedder(images)
    assert z_BD.dtype == torch.float64
    torch.testing.assert_close(z_BD.norm(dim=1), torch.ones(4).double(), rtol=0, atol=1e-14)
    loss = MultiSimilarityLoss()(z_BD, torch.tensor([0, 0, 1, 1]))
    assert loss.dtype == torch.float64
    loss.backward()
    # The images, too, are taken in float64: a float32 quotient of bytes would show at 1e-8.
    fractions = images if images.dtype == torch.float64 else images.double() / 255
    torch.testing.assert_close(z_BD, embedder(fractions), rtol=0, atol=1e-12)
    gradient = embedder.head.weight.grad
    assert gradient is not None
    assert not torch.equal(gradient, gradient.float().double())


def test_bytes_and_fractions_embed_alike() -> None:
    embedder = convnet_embedder(3).eval()
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(embedder(images), embedder(images / 255))


def test_no_head_gives_the_pooled_features_themselves(images: torch.Tensor) -> None:
    embedder = convnet_embedder(1, None, "mean").eval()
    features = embedder.backbone(images).mean(dim=(2, 3))
    torch.testing.assert_close(embedder(images), features / features.norm(dim=1, keepdim=True))
    assert not list(embedder.head.parameters())


def test_head_starts_as_in_the_recipe() -> None:
    torch.manual_seed(0)
    head = convnet_embedder(1, 2000).head
    assert head.bias.abs().max() == 0
    # Kaiming normal by fan-out: variance 2 / outputs. By fan-in it would be 2 / 64.
    assert head.weight.var().item() == pytest.approx(2 / 2000, rel=0.03)


@pytest.mark.parametrize(
    ("pool", "answer"), [("max", [4.0, 0.0]), ("mean", [2.5, -2.0]), ("sum", [6.5, -2.0])]
)
def test_pooling_of_a_map_by_hand(pool: str, answer: list[float]) -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [-3.0, -4.0]]]])
    assert POOLINGS[pool](maps).tolist() == [answer]


def test_unknown_pooling() -> None:
    with pytest.raises(UserError, match=r"model\.pool must be max, mean or sum \(of both\), not 'avg'"):
        convnet_embedder(1, pool="avg")


@pytest.mark.parametrize("embedding_dim", [0, -1])
def test_embedding_dim_must_be_positive(embedding_dim: int) -> None:
    with pytest.raises(UserError, match=r"model\.embedding_dim must be positive"):
        convnet_embedder(1, embedding_dim)


def test_frozen_statistics_survive_every_train(images: torch.Tensor) -> None:
    embedder = convnet_embedder(1, freeze_batchnorm=True)
    parent = nn.Sequential(nn.ModuleList([embedder])[0])
    before = statistics(embedder)
    for train in (lambda: None, embedder.train, parent.train, lambda: parent.eval().train()):
        train()
        embedder(images).sum().backward()
        assert embedder.training
        assert embedder.backbone.training
    after = statistics(embedder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_frozen_statistics_are_what_normalises_and_the_affine_part_still_learns(images: torch.Tensor) -> None:
    embedder = convnet_embedder(1, freeze_batchnorm=True)
    training = embedder(images)
    training[:, 0].sum().backward()
    norms = [module for module in embedder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.weight.grad.abs().sum() > 0 and norm.bias.grad.abs().sum() > 0 for norm in norms)
    assert torch.equal(training, embedder.eval()(images))


def test_statistics_move_when_not_frozen(images: torch.Tensor) -> None:
    embedder = convnet_embedder(1, freeze_batchnorm=False)
    before = statistics(embedder)
    embedder.eval().train()(images)
    assert all(not torch.equal(before[key], now) for key, now in statistics(embedder).items())


def test_frozen_statistics_survive_copies_and_synchronised_batch_norm() -> None:
    embedder = copy.deepcopy(torchvision_embedder("resnet18", weights=None))
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(embedder).train()
    norms = [module for module in synchronised.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(norms) == 20
    assert not any(norm.training for norm in norms)


def test_images_too_small() -> None:
    with pytest.raises(UserError, match="Images of 8×8 px are too small for this network"):
        torchvision_embedder("squeezenet1_0", weights=None)(torch.rand(2, 3, 8, 8))


def test_other_errors_pass_through(images: torch.Tensor) -> None:
    embedder = convnet_embedder(1)
    embedder.backbone.blocks[1] = nn.Conv2d(3, 3, 1)
    with pytest.raises(RuntimeError, match="channels"):
        embedder(images)
