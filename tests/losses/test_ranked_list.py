import pytest
import torch
from loss_cases import assert_equals_loop, from_yaml, random_batch, value_and_gradient
from pytorch_metric_learning import losses
from torch import Tensor

from dml.losses import RankedListLoss


def row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    d = (2 - 2 * S).clamp_min(1e-6).sqrt()
    far = [d[j] - 0.8 for j in positives if d[j] > 0.8]
    near = [1.2 - d[j] for j in negatives if d[j] < 1.2]
    weights = [torch.exp(3 * cost.detach()) for cost in near]
    total = 0 * S.sum()
    for cost in far:
        total = total + 0.6 * cost / len(far)
    for cost, weight in zip(near, weights, strict=True):
        total = total + 0.4 * weight * cost / sum(weights)
    return total


def test_equals_a_loop_over_pairs() -> None:
    assert_equals_loop(RankedListLoss(1.2, 0.4, 3.0, 0.4), row)


@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_agrees_with_pytorch_metric_learning(temperature: float) -> None:
    # The peer adds 1e-5 an entry to the sums of weights, and for T > 0 differentiates through the weights.
    z, y = random_batch(1, size=40, classes=8)
    value, gradient = value_and_gradient(RankedListLoss(1.2, 0.4, temperature, 0.5), z, y)
    peer = losses.RankedListLoss(margin=0.4, Tn=temperature, imbalance=0.5, alpha=1.2)
    peer_value, peer_gradient = value_and_gradient(peer, z, y)
    torch.testing.assert_close(value, peer_value, rtol=1e-3, atol=0)
    if temperature == 0:
        torch.testing.assert_close(gradient, peer_gradient, rtol=1e-3, atol=1e-6)


def test_share_of_the_negatives_is_a_share() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        RankedListLoss(lam=1.5)


def test_yaml() -> None:
    loss = from_yaml("loss/ranked_list")
    assert (loss.alpha, loss.m, loss.T, loss.lam) == (1.2, 0.4, 10, 0.5)
