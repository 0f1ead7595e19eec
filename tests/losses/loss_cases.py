"""What the tests of losses share: batches, similarity matrices, and the loss of a yaml."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from dml.losses import Pairs, ProxyAnchorLoss, ProxyNCALoss
from dml.losses.pair_loss import label_pairs

CONF = Path(__file__).parents[2] / "conf"
DIM = 5  # of the embeddings that a loss of `every_loss` takes


def random_batch(seed: int, size: int = 12, classes: int = 4, dim: int = 6) -> tuple[Tensor, Tensor]:
    """Random float64 embeddings, unnormalised, and labels of which some are alone in their class."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(size, dim, generator=generator, dtype=torch.float64)
    return z, torch.randint(0, classes, (size,), generator=generator)


def batches() -> dict[str, tuple[Tensor, Tensor]]:
    """Ordinary, degenerate and duplicate-laden batches by name."""
    z, y = random_batch(0)
    opposite = torch.cat([z[:4], -z[:4], z[:4]])
    return {
        "random": (z, y),
        "larger": random_batch(1, size=40, classes=8),
        "one_class": (z, torch.zeros_like(y)),
        "singletons": (z, torch.arange(len(y))),
        "duplicates": (torch.cat([z[:6], z[:6]]), torch.cat([y[:6], y[:6]])),
        "duplicates_across_classes": (torch.cat([z[:6], z[:6]]), torch.arange(12) // 3),
        "opposite": (opposite, torch.arange(12) % 3),
        "single_image": (z[:1], y[:1]),
    }


def similarity_and_pairs(z: Tensor, y: Tensor) -> tuple[Tensor, Pairs]:
    """Cosine similarities of a batch with itself, and its pairs."""
    unit = F.normalize(z, dim=1)
    return unit @ unit.T, label_pairs(y, y, torch.arange(len(y)))


def rename_lambda(node: Any) -> Any:
    """`lambda` is a keyword in Python: the builder hands it over as `lam`, here as on the command line."""
    if isinstance(node, dict):
        return {"lam" if key == "lambda" else key: rename_lambda(value) for key, value in node.items()}
    return node


def from_yaml(name: str, **overrides: Any) -> Any:
    """The object of `conf/<name>.yaml`, e.g. `loss/ms`, with keys replaced as on the command line.

    What the file takes from elsewhere in the configuration is there: a mining, a weighting, the embedding's dimension.
    """
    config = OmegaConf.load(CONF / f"{name}.yaml")
    assert isinstance(config, DictConfig)
    config.update(overrides)
    elsewhere = {
        "mining": OmegaConf.load(CONF / "mining" / "relative.yaml"),
        "weighting": OmegaConf.load(CONF / "weighting" / "multi_similarity.yaml"),
        "model": {"embedding_dim": DIM},
    }
    root = OmegaConf.create({**elsewhere, "built": config})
    return instantiate(rename_lambda(OmegaConf.to_container(root, resolve=True))["built"])


def names_in(group: str) -> list[str]:
    """The files of a group of the configuration, e.g. `loss`: a new one is tested as soon as it is there."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def value_and_gradient(loss: nn.Module, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of a batch and its gradient with respect to the embeddings."""
    z = z.detach().clone().requires_grad_()
    value = loss(z, y)
    (gradient,) = torch.autograd.grad(value, z)
    return value.detach(), gradient


Row = Callable[[Tensor, list[int], list[int]], Tensor]


class LoopLoss(nn.Module):
    """Mean over anchors of `row(similarities, positives, negatives)`, the naive reference of a loss."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        unit = z / z.norm(dim=1, keepdim=True)
        total = 0 * z.sum()
        for i in range(len(z)):
            positives = [j for j in range(len(z)) if j != i and y[j] == y[i]]
            negatives = [j for j in range(len(z)) if y[j] != y[i]]
            total = total + self.row(unit[i] @ unit.T, positives, negatives)
        return total / len(z)


def assert_same(loss: nn.Module, other: nn.Module, z: Tensor, y: Tensor) -> None:
    """Both losses have the same value and gradient to 1e-6."""
    value, gradient = value_and_gradient(loss, z, y)
    other_value, other_gradient = value_and_gradient(other, z, y)
    torch.testing.assert_close(value, other_value, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-6)


def assert_equals_loop(loss: nn.Module, row: Row) -> None:
    """The loss is the loop over pairs, on every batch."""
    for z, y in batches().values():
        assert_same(loss, LoopLoss(row), z, y)


def assert_agrees_with_peer(loss: ProxyAnchorLoss | ProxyNCALoss, peer: nn.Module) -> None:
    """Another package's loss, given the same proxies, has the same value and gradients to 1e-6."""
    z, y = random_batch(0)
    z.requires_grad_()
    peer.proxies = nn.Parameter(loss.proxies.detach().clone())
    value, peer_value = loss(z, y), peer(z, y)
    torch.testing.assert_close(value, peer_value, rtol=0, atol=1e-6)
    mine = torch.autograd.grad(value, [z, loss.proxies])
    theirs = torch.autograd.grad(peer_value, [z, peer.proxies])
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
