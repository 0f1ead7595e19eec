import pytest
import torch
from loss_cases import assert_equals_loop, assert_same, from_yaml, random_batch, similarity_and_pairs
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor, nn

from dml.losses import BatchHardTripletLoss, Pairs, SemiHardTripletLoss, TripletLoss
from dml.losses.triplet import triplet_counts

LAM = 0.3


def mean(terms: list[Tensor], S: Tensor) -> Tensor:
    return sum(terms, 0 * S.sum()) / max(len(terms), 1)


def all_row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    terms = [S[n] - S[p] + LAM for p in positives for n in negatives]
    return mean([term for term in terms if term > 0], S)


def zeros_included_row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    return mean([(S[n] - S[p] + LAM).relu() for p in positives for n in negatives], S)


def semi_hard_row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    return mean([S[n] - S[p] + LAM for p in positives for n in negatives if S[p] - LAM < S[n] < S[p]], S)


def hard_row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    if not positives or not negatives:
        return 0 * S.sum()
    return (S[negatives].amax() - S[positives].amin() + LAM).relu()


@pytest.mark.parametrize(
    ("loss", "row"),
    [
        (TripletLoss(LAM), all_row),
        (TripletLoss(LAM, average="all"), zeros_included_row),
        (SemiHardTripletLoss(LAM), semi_hard_row),
        (BatchHardTripletLoss(LAM), hard_row),
    ],
)
def test_equals_a_loop_over_triplets(loss: nn.Module, row) -> None:
    assert_equals_loop(loss, row)


def test_counts_of_a_worked_example() -> None:
    # Positives at 0.8 and 0.5, negatives at 0.75, 0.6 and 0.1; λ = 0.1.
    similarity = torch.tensor([[0.8, 0.5, 0.75, 0.6, 0.1, 1.0]], dtype=torch.float64)
    positive = torch.tensor([[True, True, False, False, False, False]])
    negative = torch.tensor([[False, False, True, True, True, False]])
    pairs = Pairs(positive, negative)
    # Above 0.7 lies 0.75; above 0.4 lie 0.75 and 0.6.
    assert triplet_counts(similarity, pairs, 0.1).tolist() == [[1, 2, 2, 1, 0, 0]]
    # Between 0.7 and 0.8 lies 0.75; between 0.4 and 0.5 none.
    assert triplet_counts(similarity, pairs, 0.1, semi_hard=True).tolist() == [[1, 0, 1, 0, 0, 0]]
    value = TripletLoss(0.1).per_anchor(similarity, pairs)
    assert value.item() == pytest.approx(((0.75 - 0.8) + (0.75 - 0.5) + (0.6 - 0.5) + 3 * 0.1) / 3)


class Peer(nn.Module):
    """The peer's loss of each triplet, averaged first over an anchor's active triplets, then over anchors.

    Left to itself it takes one mean over the active triplets of the batch: no rule on rows.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        distance = distances.CosineSimilarity()
        self.miner = miners.TripletMarginMiner(LAM, kind, distance=distance)
        self.loss = losses.TripletMarginLoss(LAM, distance=distance, reducer=reducers.DoNothingReducer())

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        triplets = self.miner(z, y)
        parts = self.loss(z, y, triplets)["loss"]
        cost, anchor = parts["losses"], triplets[0]
        sums = z.new_zeros(len(z)).index_add(0, anchor, cost)
        active = z.new_zeros(len(z)).index_add(0, anchor, (cost > 0).to(z.dtype))
        return (sums / active.clamp_min(1)).mean()


@pytest.mark.parametrize(
    ("loss", "kind"), [(TripletLoss(LAM), "all"), (SemiHardTripletLoss(LAM), "semihard")]
)
def test_agrees_with_pytorch_metric_learning(loss: nn.Module, kind: str) -> None:
    assert_same(loss, Peer(kind), *random_batch(0))


def test_batch_hard_agrees_with_pytorch_metric_learning() -> None:
    z, _ = random_batch(0)
    y = torch.arange(12) % 4
    distance = distances.CosineSimilarity()
    peer = losses.TripletMarginLoss(LAM, distance=distance, reducer=reducers.MeanReducer())
    miner = miners.BatchHardMiner(distance=distance)

    class BatchHard(nn.Module):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return peer(z, y, miner(z, y))

    assert_same(BatchHardTripletLoss(LAM), BatchHard(), z, y)


def test_memory_grows_as_the_matrix() -> None:
    # Every triplet written out would take 1000 · 500 · 500 numbers; the counts are exact all the same.
    z = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    similarity, pairs = similarity_and_pairs(z, torch.arange(1000) % 2)
    counts = triplet_counts(similarity, pairs, 0.1)
    threshold, negatives = similarity[7] - 0.1, similarity[7][pairs.negative[7]]
    expected = (negatives[None, :] > threshold[:, None]).sum(dim=1)
    assert (counts[7] == expected)[pairs.positive[7]].all()
    active = (counts * pairs.positive).sum(dim=1)
    assert (active == (counts * pairs.negative).sum(dim=1)).all()


def test_yaml() -> None:
    expected = {"": TripletLoss, "_semi_hard": SemiHardTripletLoss, "_batch_hard": BatchHardTripletLoss}
    for suffix, kind in expected.items():
        loss = from_yaml(f"loss/triplet{suffix}")
        assert type(loss) is kind
        assert loss.lam == 0.1
    assert from_yaml("loss/triplet").average == "active"
    assert from_yaml("loss/triplet_all").average == "all"


def test_an_average_is_over_active_triplets_or_all() -> None:
    with pytest.raises(ValueError, match=r"loss\.average must be active or all, not some"):
        TripletLoss(average="some")


def test_margin_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"loss\.lambda must be positive"):
        TripletLoss(0.0)
