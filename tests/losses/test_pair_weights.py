"""General Pair Weighting: the weights read off by autograd are the analytic ones of the papers."""

import pytest
import torch
from loss_cases import batches, from_yaml, names_in, similarity_and_pairs
from torch import Tensor, nn

from dml.losses import (
    BinomialDevianceLoss,
    ContrastiveLoss,
    LiftedStructureLoss,
    MultiSimilarityLoss,
    PairLoss,
    Pairs,
    TripletLoss,
    pair_weights,
)
from dml.losses.weighting import (
    ConstantWeighting,
    ExponentialWeighting,
    LogisticWeighting,
    MultiSimilarityWeighting,
    PowerWeighting,
    TripletWeighting,
    Weighting,
)

CASES = batches()
ANALYTIC = [
    (ContrastiveLoss(0.2), ConstantWeighting(0.2)),
    (TripletLoss(0.3), TripletWeighting(0.3)),
    # With λ = 5 the hinge of every anchor with both kinds of pairs is open.
    (LiftedStructureLoss(5.0), ExponentialWeighting()),
    (BinomialDevianceLoss(2.0, 20.0, 0.4), LogisticWeighting(2.0, 20.0, 0.4)),
    (MultiSimilarityLoss(2.0, 40.0, 0.5, None), MultiSimilarityWeighting(2.0, 40.0, 0.5)),
]


@pytest.mark.parametrize(("loss", "weighting"), ANALYTIC)
@pytest.mark.parametrize("name", CASES)
def test_autograd_agrees_with_the_formula(loss: PairLoss, weighting: Weighting, name: str) -> None:
    similarity, pairs = similarity_and_pairs(*CASES[name])
    weights = pair_weights(loss, similarity, pairs)
    expected = weighting(similarity, pairs)
    if isinstance(loss, LiftedStructureLoss):
        both = pairs.positive.any(dim=1) & pairs.negative.any(dim=1)
        weights, expected = weights[both], expected[both]
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)


def naive_weights(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    """The multi-similarity weights as the paper prints them, relative to each pair in turn."""
    alpha, beta, lam = 2, 40, 0.5
    w = torch.zeros_like(S)
    for j in positives:
        others = sum(torch.exp(-alpha * (S[k] - S[j])) for k in positives)
        w[j] = 1 / (torch.exp(-alpha * (lam - S[j])) + others)
    for j in negatives:
        others = sum(torch.exp(beta * (S[k] - S[j])) for k in negatives)
        w[j] = 1 / (torch.exp(beta * (lam - S[j])) + others)
    return w


def test_multi_similarity_weights_as_printed() -> None:
    similarity, pairs = similarity_and_pairs(*CASES["random"])
    weights = pair_weights(MultiSimilarityLoss(2.0, 40.0, 0.5, None), similarity, pairs)
    for i in range(len(weights)):
        P, N = pairs.positive[i].nonzero().flatten().tolist(), pairs.negative[i].nonzero().flatten().tolist()
        torch.testing.assert_close(weights[i], naive_weights(similarity[i], P, N), rtol=0, atol=1e-6)


def test_weights_held_constant_have_the_gradient_of_the_loss() -> None:
    similarity, pairs = similarity_and_pairs(*CASES["random"])
    loss = MultiSimilarityLoss()
    weights = pair_weights(loss, similarity, pairs)
    S = similarity.clone().requires_grad_()
    (weights * torch.where(pairs.positive, -S, S)).sum().backward()
    mine = S.grad
    S = similarity.clone().requires_grad_()
    loss.per_anchor(S, pairs).sum().backward()
    torch.testing.assert_close(mine, S.grad)


def test_it_works_without_gradients_and_leaves_none_behind() -> None:
    similarity, pairs = similarity_and_pairs(*CASES["random"])
    loss: nn.Module = MultiSimilarityLoss()
    with torch.no_grad():
        weights = pair_weights(loss, similarity, pairs)
    assert weights.sum() > 0
    assert not weights.requires_grad
    assert similarity.grad is None


def test_power_weighting_of_a_worked_example() -> None:
    similarity = torch.tensor([[0.5, -0.3, 0.4]])
    pairs = Pairs(torch.tensor([[True, False, False]]), torch.tensor([[False, True, True]]))
    torch.testing.assert_close(PowerWeighting(0.1, 2.0)(similarity, pairs), torch.tensor([[0.36, 0.0, 0.25]]))


def test_power_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"weighting\.p must be positive"):
        PowerWeighting(p=0.0)


@pytest.mark.parametrize("name", names_in("weighting"))
def test_yaml_weighs_every_pair_and_nothing_else(name: str) -> None:
    similarity, pairs = similarity_and_pairs(*CASES["random"])
    weights = from_yaml(f"weighting/{name}")(similarity, pairs)
    assert (weights >= 0).all()
    assert weights.sum() > 0
    assert (weights[~(pairs.positive | pairs.negative)] == 0).all()
    alone = from_yaml(f"weighting/{name}")(similarity[5:6], Pairs(*(field[5:6] for field in pairs[:4])))
    torch.testing.assert_close(alone, weights[5:6])
