import pytest
import torch
from loss_cases import assert_equals_loop, assert_same, from_yaml, random_batch
from pytorch_metric_learning import losses, reducers
from torch import Tensor

from dml.losses import Pairs, SupervisedContrastiveLoss


def row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    total = 0 * S.sum()
    for p in positives:
        everything = sum(torch.exp(S[j] / 0.2) for j in positives + negatives)
        total = total - torch.log(torch.exp(S[p] / 0.2) / everything) / len(positives)
    return total


def test_equals_a_loop_over_pairs() -> None:
    assert_equals_loop(SupervisedContrastiveLoss(0.2), row)


def test_agrees_with_pytorch_metric_learning() -> None:
    # By default the peer leaves anchors of zero loss out of the mean.
    peer = losses.SupConLoss(0.1, reducer=reducers.MeanReducer())
    assert_same(SupervisedContrastiveLoss(0.1), peer, *random_batch(0))


def test_an_outstanding_positive_is_pushed_away() -> None:
    similarity = torch.tensor([[0.9, 0.0, -0.5]], requires_grad=True)
    pairs = Pairs(torch.tensor([[True, True, False]]), torch.tensor([[False, False, True]]))
    SupervisedContrastiveLoss(0.1).per_anchor(similarity, pairs).sum().backward()
    assert similarity.grad is not None
    assert similarity.grad[0, 0] > 0
    assert similarity.grad[0, :2].sum() < 0


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"loss\.tau must be positive"):
        SupervisedContrastiveLoss(0.0)


def test_yaml() -> None:
    assert from_yaml("loss/supervised_contrastive").tau == 0.1
