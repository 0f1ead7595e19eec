import math

import pytest
import torch
from loss_cases import assert_equals_loop, from_yaml
from torch import Tensor

from dml.losses import BinomialDevianceLoss, Pairs


def row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    total = 0 * S.sum()
    for j in positives:
        total = total + torch.log1p(torch.exp(2 * (0.5 - S[j]))) / len(positives)
    for j in negatives:
        total = total + torch.log1p(torch.exp(20 * (S[j] - 0.5))) / len(negatives)
    return total


def test_equals_a_loop_over_pairs() -> None:
    assert_equals_loop(BinomialDevianceLoss(2.0, 20.0, 0.5), row)


def test_worked_example() -> None:
    similarity = torch.tensor([[0.5, 0.5, 0.4]])
    pairs = Pairs(torch.tensor([[True, False, False]]), torch.tensor([[False, True, True]]))
    value = BinomialDevianceLoss(2.0, 20.0, 0.5).per_anchor(similarity, pairs)
    assert value.item() == pytest.approx(1.5 * math.log(2) + math.log(1 + math.exp(-2)) / 2)


def test_sharpness_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        BinomialDevianceLoss(0.0, 1.0)


def test_yaml() -> None:
    loss = from_yaml("loss/binomial_deviance")
    assert (loss.alpha, loss.beta, loss.lam) == (2, 50, 0.5)
