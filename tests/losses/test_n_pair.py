import pytest
import torch
from loss_cases import assert_equals_loop, assert_same, from_yaml, random_batch
from pytorch_metric_learning import losses
from torch import Tensor, nn

from dml.losses import NPairLoss


def row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    total = 0 * S.sum()
    for p in positives:
        total = total + torch.log1p(sum((torch.exp(5 * (S[n] - S[p])) for n in negatives), 0 * S[p]))
    return total / max(len(positives), 1)


def test_equals_a_loop_over_pairs() -> None:
    assert_equals_loop(NPairLoss(5.0), row)


class FirstImages(nn.Module):
    """Anchors are the first six images, references the last six."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return NPairLoss(1.0)(z[:6], y[:6], z[6:], y[6:])


class Peer(nn.Module):
    """One anchor and one positive of each class; cosines, and no scale."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        pairs = torch.arange(6), torch.arange(6, 12), torch.arange(0), torch.arange(0)
        return losses.NPairsLoss()(z, y, pairs)


def test_agrees_with_pytorch_metric_learning() -> None:
    z, _ = random_batch(0)
    assert_same(FirstImages(), Peer(), z, torch.arange(12) % 6)


def test_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"loss\.scale must be positive"):
        NPairLoss(0.0)


def test_yaml() -> None:
    assert from_yaml("loss/n_pair").scale == 10
