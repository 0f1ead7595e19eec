"""EmbeddingModule: parameter groups, the stop at NaN, what a checkpoint carries."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.optim.lr_scheduler import ConstantLR

from dml.errors import UserError
from dml.losses import DistanceWeightedMining, MarginLoss, MultiSimilarityLoss
from dml.losses.spherical import SphericalConstraint
from dml.module import EmbeddingModule


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, image: torch.Tensor, normalize: bool = True) -> torch.Tensor:
        f_BD = self.head(self.backbone(image))
        return nn.functional.normalize(f_BD) if normalize else f_BD


def embedding_module(**factors: float) -> EmbeddingModule:
    return EmbeddingModule(
        Embedder(),
        MultiSimilarityLoss(),
        lambda groups: torch.optim.SGD(groups, lr=0.1),
        lambda optimizer: ConstantLR(optimizer, 1.0),
        {"backbone": 1.0, "head": 1.0, "loss": 1.0} | factors,
        OmegaConf.create({"seed": 3, "twice": "${seed}"}),
    )


def test_each_group_learns_at_its_own_rate():
    optimizer = embedding_module(backbone=0.5, head=2.0).configure_optimizers()["optimizer"]
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {"backbone": 0.05, "head": 0.2}
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]


def test_a_loss_that_is_not_finite_names_the_batch():
    broken = embedding_module()
    names = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]
    data = SimpleNamespace(train_set=SimpleNamespace(names=names))
    broken._trainer = SimpleNamespace(global_step=7, datamodule=data)
    batch = {
        "image": torch.full((2, 3), torch.nan),
        "label": torch.tensor([0, 1]),
        "index": torch.tensor([2, 0]),
    }
    with pytest.raises(UserError, match=r"nan at step 7, on the batch of b/1.png, a/1.png"):
        broken.training_step(batch, 0)


def test_a_checkpoint_carries_the_configuration_with_its_interpolations():
    checkpoint: dict = {}
    module = embedding_module()
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["config"] == {"seed": 3, "twice": "${seed}"}
    assert dict(module.hparams) == {"seed": 3, "twice": 3}


def test_draws_of_a_mining_follow_from_seed_and_step(monkeypatch):
    module = embedding_module()
    module.loss = MarginLoss(mining=DistanceWeightedMining(2, max_distance=2.1))
    monkeypatch.setattr(module, "log", lambda *args, **options: None)
    image = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    batch = {"image": image, "label": torch.arange(40) % 8, "index": torch.arange(40)}

    def loss_at(step: int) -> float:
        module._trainer = SimpleNamespace(global_step=step)
        return module.training_step(batch, 0)["loss"].item()

    first = loss_at(3)
    torch.manual_seed(1)  # dropout may have drawn anything meanwhile
    assert loss_at(3) == first
    assert loss_at(4) != first


def test_a_regularizer_is_added_to_the_loss_and_logged(monkeypatch):
    module, logged = embedding_module(), {}
    module._trainer = SimpleNamespace(global_step=0)
    monkeypatch.setattr(module, "log", lambda name, value, **options: logged.update({name: value.item()}))
    batch = {"image": torch.randn(8, 3), "label": torch.arange(8) // 2, "index": torch.arange(8)}
    alone = module.training_step(batch, 0)
    assert logged.keys() == {"train/loss"}
    module.regularizer = SphericalConstraint(0.5)
    both = module.training_step(batch, 0)
    lengths = module.embedder(batch["image"], normalize=False).norm(dim=1)
    assert logged["train/regularizer"] == pytest.approx(0.5 * lengths.var(correction=0).item())
    assert both["loss"].item() == pytest.approx(alone["loss"].item() + logged["train/regularizer"])
    assert logged["train/loss"] == both["loss"].item()
    assert torch.equal(both["embedding"], alone["embedding"])
