import pytest
import torch
from loss_cases import assert_equals_loop, assert_same, from_yaml, random_batch
from pytorch_metric_learning import losses, reducers
from torch import Tensor

from dml.losses import CircleLoss


def row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    m, gamma, C = 0.3, 10, S.detach()
    negative = [torch.exp(gamma * (C[j] + m).relu() * (S[j] - m)) for j in negatives]
    positive = [torch.exp(-gamma * (1 + m - C[j]).relu() * (S[j] - 1 + m)) for j in positives]
    return torch.log1p(sum(negative, 0 * S.sum()) * sum(positive, 0 * S.sum()))


def test_equals_a_loop_over_pairs() -> None:
    assert_equals_loop(CircleLoss(0.3, 10.0), row)


def test_agrees_with_pytorch_metric_learning() -> None:
    # By default the peer leaves anchors of zero loss out of the mean.
    peer = losses.CircleLoss(0.4, 80, reducer=reducers.MeanReducer())
    assert_same(CircleLoss(0.4, 80.0), peer, *random_batch(0))


def test_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"loss\.gamma must be positive"):
        CircleLoss(gamma=0.0)


def test_yaml() -> None:
    loss = from_yaml("loss/circle")
    assert (loss.m, loss.gamma) == (0.4, 80)
