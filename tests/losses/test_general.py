import itertools

import pytest
import torch
from loss_cases import CONF, batches, from_yaml, random_batch, similarity_and_pairs, value_and_gradient
from omegaconf import OmegaConf

from dml.errors import UserError
from dml.losses import (
    BinomialDevianceLoss,
    ContrastiveLoss,
    GeneralWeightingLoss,
    LiftedStructureLoss,
    MultiSimilarityLoss,
    PairLoss,
    TripletLoss,
)
from dml.losses.mining import AllMining, Mining, RelativeMining
from dml.losses.weighting import (
    ConstantWeighting,
    ExponentialWeighting,
    LogisticWeighting,
    MultiSimilarityWeighting,
    TripletWeighting,
    Weighting,
)

CASES = batches()
MININGS = ["all", "hardest", "semi_hard", "easy_positive", "relative", "distance_weighted", "top_k"]
WEIGHTINGS = ["constant", "linear", "power", "exponential", "logistic", "multi_similarity", "triplet"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("mining", "weighting", "loss"),
    [
        (
            RelativeMining(0.1),
            MultiSimilarityWeighting(2.0, 40.0, 0.5),
            MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1),
        ),
        (AllMining(), LogisticWeighting(2.0, 50.0, 0.5), BinomialDevianceLoss(2.0, 50.0, 0.5)),
        (AllMining(), ConstantWeighting(0.5), ContrastiveLoss(0.5)),
        (AllMining(), TripletWeighting(0.1), TripletLoss(0.1)),
    ],
)
def test_has_the_gradient_of_the_loss(
    mining: Mining, weighting: Weighting, loss: PairLoss, name: str
) -> None:
    _, gradient = value_and_gradient(GeneralWeightingLoss(mining, weighting), *CASES[name])
    _, expected = value_and_gradient(loss, *CASES[name])
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)


def test_has_the_gradient_of_lifted_structure_where_its_hinge_is_open() -> None:
    z, _ = random_batch(0)
    y = torch.arange(12) % 4
    _, gradient = value_and_gradient(GeneralWeightingLoss(AllMining(), ExponentialWeighting()), z, y)
    _, expected = value_and_gradient(LiftedStructureLoss(5.0), z, y)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("euclidean", [False, True])
def test_value_and_gradient_of_a_worked_example(euclidean: bool) -> None:
    # Unit vectors at 0°, 60° (a positive, S = 0.5, d = 1) and 90° (a negative, S = 0, d = √2); weights 1.
    similarity = torch.tensor([[1.0, 0.5, 0.0]], requires_grad=True)
    _, pairs = similarity_and_pairs(torch.eye(3), torch.tensor([0, 0, 1]))
    row = pairs._replace(positive=pairs.positive[:1], negative=pairs.negative[:1], label=None)
    loss = GeneralWeightingLoss(AllMining(), ConstantWeighting(), euclidean)
    value = loss.per_anchor(similarity, row)
    value.sum().backward()
    # d = √(2 − 2S) has the slope −1/d.
    expected = (1 - 2**0.5, [0, -1, 2**-0.5]) if euclidean else (0.5 - 1, [0, -1, 1])
    assert value.item() == pytest.approx(expected[0], abs=1e-6)
    assert similarity.grad is not None
    assert similarity.grad[0].tolist() == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize(("mining", "weighting"), list(itertools.product(MININGS, WEIGHTINGS)))
def test_any_mining_composes_with_any_weighting(mining: str, weighting: str) -> None:
    dim = {"embedding_dim": 6, "max_distance": 1.9} if mining == "distance_weighted" else {}
    half = from_yaml(f"mining/{mining}", **dim)
    for euclidean in (False, True):
        loss = GeneralWeightingLoss(half, from_yaml(f"weighting/{weighting}"), euclidean)
        for name in ("one_class", "singletons", "duplicates_across_classes", "single_image"):
            value, gradient = value_and_gradient(loss, *CASES[name])
            assert value.isfinite()
            assert gradient.isfinite().all()
        _, gradient = value_and_gradient(loss, *CASES["larger"])
        assert (gradient != 0).any()


@pytest.mark.parametrize("halves", [(None, ConstantWeighting()), (AllMining(), None)])
def test_a_missing_half_is_named(halves: tuple) -> None:
    with pytest.raises(UserError, match="mining=… and weighting=…"):
        GeneralWeightingLoss(*halves)


def test_yaml() -> None:
    relative = {"_target_": "dml.losses.mining.RelativeMining", "epsilon": 0.1}
    weighting = {"_target_": "dml.losses.weighting.MultiSimilarityWeighting"}
    loss = from_yaml("loss/general", mining=relative, weighting=weighting)
    assert isinstance(loss.mining, RelativeMining)
    assert not loss.euclidean


def test_yaml_takes_both_halves_from_the_top_level_groups() -> None:
    config = OmegaConf.create({"mining": {"k": 1}, "weighting": {"p": 2}})
    config.loss = OmegaConf.load(CONF / "loss/general.yaml")
    assert config.loss.mining.k == 1
    assert config.loss.weighting.p == 2
