import pytest
import torch
from loss_cases import assert_equals_loop, from_yaml, random_batch, similarity_and_pairs, value_and_gradient
from pytorch_metric_learning import losses
from torch import Tensor

from dml.losses import DistanceWeightedMining, MarginLoss


def row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    d = (2 - 2 * S).clamp_min(1e-6).sqrt()
    terms = [0.2 + d[j] - 1.2 for j in positives] + [0.2 + 1.2 - d[j] for j in negatives]
    active = [term for term in terms if term > 0]
    return sum(active, 0 * S.sum()) / max(len(active), 1)


def test_equals_a_loop_over_pairs() -> None:
    assert_equals_loop(MarginLoss(0.2, 1.2), row)


def test_beta_of_the_anchors_class_is_learned() -> None:
    z, y = random_batch(0)
    loss = MarginLoss(0.2, 1.2, nu=0.5, num_classes=5)
    with torch.no_grad():
        loss.beta[2] = 1.0
    naive = z.new_zeros(())
    similarity, pairs = similarity_and_pairs(z, y)
    beta = torch.tensor([1.2, 1.2, 1.0, 1.2, 1.2], dtype=torch.float32, requires_grad=True)
    for i in range(len(z)):
        boundary = beta[y[i]]
        d = (2 - 2 * similarity[i]).clamp_min(0).sqrt()
        terms = [0.2 + d[j] - boundary for j in range(len(z)) if pairs.positive[i, j]]
        terms += [0.2 + boundary - d[j] for j in range(len(z)) if pairs.negative[i, j]]
        active = [term for term in terms if term > 0]
        naive = naive + sum(active) / max(len(active), 1) + 0.5 * boundary
    value = loss(z, y)
    value.backward()
    (naive / len(z)).backward()
    torch.testing.assert_close(value, naive / len(z), rtol=0, atol=1e-6)
    torch.testing.assert_close(loss.beta.grad, beta.grad, rtol=0, atol=1e-6)
    assert loss.beta.grad is not None
    assert loss.beta.grad[4] == 0


def test_agrees_with_pytorch_metric_learning() -> None:
    # The peer works on triplets and takes one mean over the active pairs of the batch. With one positive and
    # one negative an anchor, both active, the means are the same.
    z = torch.tensor([[1.0, 0.0], [0.5, 1.0], [1.0, 0.2], [0.4, 0.9]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1])
    triplets = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 0, 3, 2]), torch.tensor([2, 3, 0, 1])

    def nearest(similarity: Tensor, pairs):
        negative = torch.zeros_like(pairs.negative).scatter_(1, triplets[2][:, None], True)
        return pairs._replace(negative=negative)

    value, gradient = value_and_gradient(MarginLoss(0.5, 0.7, mining=nearest), z, y)
    z.requires_grad_()
    peer = losses.MarginLoss(0.5, beta=0.7)(z, y, triplets)
    torch.testing.assert_close(value, peer.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(peer, z)[0], rtol=0, atol=1e-6)


def test_a_beta_a_class_needs_labels() -> None:
    z, y = random_batch(0)
    similarity, pairs = similarity_and_pairs(z, y)
    with pytest.raises(ValueError, match="labels"):
        MarginLoss(num_classes=4).per_anchor(similarity, pairs._replace(label=None))


def test_yaml() -> None:
    mining = {"_target_": "dml.losses.DistanceWeightedMining", "embedding_dim": 8}
    loss = from_yaml("loss/margin", num_classes=7, mining=mining)
    assert loss.beta.shape == (7,)
    assert isinstance(loss.mining, DistanceWeightedMining)
    z, y = random_batch(0, dim=8)
    value, gradient = value_and_gradient(loss, z, y)
    assert value > 0
    assert gradient.isfinite().all()
