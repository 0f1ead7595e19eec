import torch
from hydra.utils import instantiate
from loss_cases import from_yaml, random_batch, similarity_and_pairs, value_and_gradient
from torch import Tensor

from dml.losses import ContrastiveLoss, MultiSimilarityLoss, WeightedPairLoss, pair_weights
from dml.losses.mining import RelativeMining


def easy_positives(S: Tensor, sharpness: float = 10.0) -> Tensor:
    return torch.sigmoid(sharpness * S)


def hard_negatives(S: Tensor) -> Tensor:
    return S.relu() ** 2


def test_its_weights_are_the_functions() -> None:
    similarity, pairs = similarity_and_pairs(*random_batch(0))
    weights = pair_weights(WeightedPairLoss(easy_positives, hard_negatives), similarity, pairs)
    torch.testing.assert_close(weights[pairs.positive], easy_positives(similarity)[pairs.positive])
    torch.testing.assert_close(weights[pairs.negative], hard_negatives(similarity)[pairs.negative])
    assert (weights[~(pairs.positive | pairs.negative)] == 0).all()


def test_constant_weights_are_the_contrastive_loss() -> None:
    loss = WeightedPairLoss(torch.ones_like, lambda S: (S > 0.3).to(S.dtype))
    _, gradient = value_and_gradient(loss, *random_batch(0))
    _, expected = value_and_gradient(ContrastiveLoss(0.3), *random_batch(0))
    torch.testing.assert_close(gradient, expected)


def test_mining_comes_first() -> None:
    similarity, pairs = similarity_and_pairs(*random_batch(1, size=40, classes=8))
    loss = WeightedPairLoss(torch.ones_like, torch.ones_like, RelativeMining(0.05))
    mined = pair_weights(MultiSimilarityLoss(epsilon=0.05), similarity, pairs) > 0
    assert (pair_weights(loss, similarity, pairs) == mined.double()).all()


def test_a_yaml_names_the_functions() -> None:
    config = {
        "_target_": "dml.losses.WeightedPairLoss",
        "positive_weight": {"_target_": f"{__name__}.easy_positives", "_partial_": True, "sharpness": 5.0},
        "negative_weight": {"_target_": f"{__name__}.hard_negatives", "_partial_": True},
    }
    loss = instantiate(config)
    assert loss.positive_weight(torch.ones(1)) == torch.sigmoid(torch.tensor(5.0))
    value, gradient = value_and_gradient(loss, *random_batch(0))
    assert value.isfinite()
    assert (gradient != 0).any()


def test_yaml() -> None:
    similarity, pairs = similarity_and_pairs(*random_batch(0))
    weights = pair_weights(from_yaml("loss/from_weights"), similarity, pairs)
    assert (weights[pairs.positive] == 1).all()
    assert (weights[pairs.negative] == similarity[pairs.negative].relu()).all()
