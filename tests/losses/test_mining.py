import pytest
import torch
from loss_cases import batches, from_yaml, names_in, random_batch, similarity_and_pairs
from torch import Tensor

from dml.losses import DistanceWeightedMining, Pairs
from dml.losses.mining import (
    AllMining,
    EasyPositiveMining,
    HardestMining,
    Mining,
    RelativeMining,
    SemiHardMining,
    TopKMining,
)

# Positives at 0.8, 0.5 and 0.3; negatives at 0.7, 0.45, 0.1 and 0.45; last the image itself.
SIMILARITY = torch.tensor([[0.8, 0.5, 0.3, 0.7, 0.45, 0.1, 0.45, 1.0]])
PAIRS = Pairs(torch.tensor([[True] * 3 + [False] * 5]), torch.tensor([[False] * 3 + [True] * 4 + [False]]))
MININGS = names_in("mining")


@pytest.mark.parametrize(
    ("mining", "positive", "negative"),
    [
        (AllMining(), {0, 1, 2}, {3, 4, 5, 6}),
        (HardestMining(), {2}, {3}),
        (SemiHardMining(0.15), {0, 1}, {3, 4, 6}),
        (EasyPositiveMining(), {0}, {3}),
        (RelativeMining(0.05), {1, 2}, {3, 4, 6}),
        (TopKMining(1), {2}, {3}),
        (TopKMining(2), {1, 2}, {3, 4, 6}),
        (TopKMining(100), {0, 1, 2}, {3, 4, 5, 6}),
    ],
)
def test_worked_example(mining: Mining, positive: set[int], negative: set[int]) -> None:
    mined = mining(SIMILARITY, PAIRS)
    assert set(mined.positive[0].nonzero().flatten().tolist()) == positive
    assert set(mined.negative[0].nonzero().flatten().tolist()) == negative


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("name", list(batches()))
def test_survivors_are_candidates(mining: str, name: str) -> None:
    similarity, pairs = similarity_and_pairs(*batches()[name])
    mined = from_yaml(f"mining/{mining}")(similarity, pairs)
    assert not (mined.positive & ~pairs.positive).any()
    assert not (mined.negative & ~pairs.negative).any()
    assert mined.label is pairs.label


@pytest.mark.parametrize("name", MININGS)
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    similarity, pairs = similarity_and_pairs(*random_batch(1, size=40, classes=8))
    pairs, mining = pairs._replace(seed=3), from_yaml(f"mining/{name}")
    whole = mining(similarity, pairs)
    share = mining(similarity[25:], Pairs(*(field[25:] for field in pairs[:4]), seed=3))
    assert whole.positive.any()
    assert whole.negative.any()
    assert torch.equal(share.positive, whole.positive[25:])
    assert torch.equal(share.negative, whole.negative[25:])


@pytest.mark.parametrize("name", [name for name in MININGS if name != "distance_weighted"])
def test_equal_similarities_survive_together(name: str) -> None:
    levels = torch.randint(-2, 3, (30, 40), generator=torch.Generator().manual_seed(0)) / 4
    positive = torch.arange(40) % 2 == 0
    pairs = Pairs(positive.expand(30, 40), ~positive.expand(30, 40))
    mined = from_yaml(f"mining/{name}")(levels, pairs)
    for kept, candidates in ((mined.positive, pairs.positive), (mined.negative, pairs.negative)):
        for row in range(30):
            chosen = set(levels[row][kept[row]].tolist())
            assert not chosen & set(levels[row][candidates[row] & ~kept[row]].tolist())


def draws(similarity: Tensor, pairs: Pairs, mining: Mining, anchors: int) -> Tensor:
    """How often each negative of a row was drawn, as a fraction of as many anchors, half of them with a seed."""
    torch.manual_seed(0)
    rows_QR = similarity.expand(anchors // 2, -1)
    alike = Pairs(pairs.positive.expand(anchors // 2, -1), pairs.negative.expand(anchors // 2, -1))
    drawn = [mining(rows_QR, alike._replace(seed=seed)).negative for seed in (None, 1)]
    return torch.cat(drawn).double().mean(dim=0, keepdim=True)


def test_distance_weighted_draws_one_negative_a_positive() -> None:
    similarity, pairs = similarity_and_pairs(*random_batch(1, size=40, classes=8))
    mined = DistanceWeightedMining(6, max_distance=2.1)(similarity, pairs)
    assert (mined.negative.sum(dim=1) == pairs.positive.sum(dim=1)).all()
    assert (mined.positive == pairs.positive).all()


def test_distance_weighted_probabilities() -> None:
    # One positive, so one draw; negatives at distances 0.3 (cut off at 0.5), 0.8, 1.2 and 1.5 (never drawn).
    d = torch.tensor([0.6, 0.3, 0.8, 1.2, 1.5], dtype=torch.float64)
    positive = torch.tensor([[True, False, False, False, False]])
    weights = [x**-3 * (1 - x**2 / 4) ** -1 for x in (0.5, 0.8, 1.2)]
    expected = torch.tensor([[0, *weights, 0]], dtype=torch.float64) / sum(weights)
    frequency = draws((1 - d**2 / 2)[None], Pairs(positive, ~positive), DistanceWeightedMining(5), 4000)
    torch.testing.assert_close(frequency, expected, rtol=0, atol=0.03)


def test_distance_weighted_in_512_dimensions() -> None:
    d = torch.tensor([[0.6, 0.2, 1.0, 1.39, 1.99]])
    positive = torch.tensor([[True, False, False, False, False]])
    frequency = draws(1 - d**2 / 2, Pairs(positive, ~positive), DistanceWeightedMining(512), 20)
    assert frequency[0].tolist() == [0, 1, 0, 0, 0]


def test_distance_weighted_draws_of_an_anchor_hang_on_its_place_and_the_seed_alone() -> None:
    similarity, pairs = similarity_and_pairs(*random_batch(1, size=40, classes=8))
    mining = DistanceWeightedMining(6, max_distance=2.1)
    whole = mining(similarity, pairs._replace(seed=5)).negative
    share = Pairs(*(field[25:] for field in pairs[:4]), seed=5)
    assert torch.equal(mining(similarity[25:], share).negative, whole[25:])
    assert not torch.equal(mining(similarity, pairs._replace(seed=6)).negative, whole)
    unseeded = [mining(similarity, pairs).negative for _ in range(2)]
    assert not torch.equal(*unseeded)


def test_k_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"mining\.k must be at least 1"):
        TopKMining(0)


def test_yaml_of_distance_weighted_mining() -> None:
    mining = from_yaml("mining/distance_weighted", embedding_dim=5)
    assert (mining.embedding_dim, mining.cutoff, mining.max_distance) == (5, 0.5, 1.4)
