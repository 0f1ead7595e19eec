import torch
from loss_cases import assert_equals_loop, assert_same, from_yaml, random_batch
from pytorch_metric_learning import distances, losses, reducers
from torch import Tensor, nn

from dml.losses import ContrastiveLoss, Pairs


def row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    return sum((-S[j] for j in positives), 0 * S.sum()) + sum((S[j] - 0.2).relu() for j in negatives)


def test_equals_a_loop_over_pairs() -> None:
    assert_equals_loop(ContrastiveLoss(0.2), row)


def test_worked_example() -> None:
    # A positive at 0.6; of the negatives at 0.7 and 0.4 only the first is above λ = 0.5.
    similarity = torch.tensor([[0.6, 0.7, 0.4]])
    pairs = Pairs(torch.tensor([[True, False, False]]), torch.tensor([[False, True, True]]))
    torch.testing.assert_close(ContrastiveLoss(0.5).per_anchor(similarity, pairs), torch.tensor([-0.6 + 0.2]))


class Peer(nn.Module):
    """The peer's loss of each pair, summed an anchor. Its positives cost 1 − S, ours −S."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        distance = distances.CosineSimilarity()
        loss = losses.ContrastiveLoss(1.0, 0.2, distance=distance, reducer=reducers.DoNothingReducer())
        parts = loss(z, y)
        positive, negative = parts["pos_loss"]["losses"], parts["neg_loss"]["losses"]
        return ((positive - 1).sum() + negative.sum()) / len(z)


def test_agrees_with_pytorch_metric_learning() -> None:
    assert_same(ContrastiveLoss(0.2), Peer(), *random_batch(0))


def test_yaml() -> None:
    assert from_yaml("loss/contrastive").lam == 0.5
