import math

import pytest
import torch
from loss_cases import batches, from_yaml, random_batch, value_and_gradient
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from dml.losses import MultiSimilarityLoss, Pairs

CASES = batches()


class NaiveLoss(nn.Module):
    """Equations 11, 12 and 15 of Wang et al. 2019, one pair at a time."""

    def __init__(self, alpha: float, beta: float, lam: float, epsilon: float | None) -> None:
        super().__init__()
        self.alpha, self.beta, self.lam, self.epsilon = alpha, beta, lam, epsilon

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        total = 0 * z.sum()
        unit = z / z.norm(dim=1, keepdim=True)
        for i in range(len(z)):
            S = [unit[i] @ unit[j] for j in range(len(z))]
            P = [j for j in range(len(z)) if j != i and y[j] == y[i]]
            N = [j for j in range(len(z)) if y[j] != y[i]]
            if self.epsilon is not None:
                P, N = (
                    [j for j in P if N and S[j] < max(S[k] for k in N) + self.epsilon],
                    [j for j in N if P and S[j] > min(S[k] for k in P) - self.epsilon],
                )
            positives = sum(torch.exp(-self.alpha * (S[j] - self.lam)) for j in P)
            negatives = sum(torch.exp(self.beta * (S[j] - self.lam)) for j in N)
            total = total + torch.log(1 + torch.as_tensor(positives)) / self.alpha
            total = total + torch.log(1 + torch.as_tensor(negatives)) / self.beta
        return total / len(z)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "settings", [(2.0, 40.0, 0.5, 0.1), (2.0, 50.0, 1.0, 0.1), (1.0, 3.0, 0.2, None), (2.0, 40.0, 0.5, -0.3)]
)
def test_equals_a_loop_over_pairs(name: str, settings: tuple) -> None:
    value, gradient = value_and_gradient(MultiSimilarityLoss(*settings), *CASES[name])
    naive_value, naive_gradient = value_and_gradient(NaiveLoss(*settings), *CASES[name])
    torch.testing.assert_close(value, naive_value, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, naive_gradient, rtol=0, atol=1e-6)


def test_worked_example() -> None:
    # One anchor, one positive at 0.5 and negatives at 0.45 and −1; ε = 0.1 keeps the first negative only.
    similarity = torch.tensor([[1.0, 0.5, 0.45, -1.0]])
    pairs = Pairs(torch.tensor([[False, True, False, False]]), torch.tensor([[False, False, True, True]]))
    expected = math.log(1 + math.exp(0)) / 2 + math.log(1 + math.exp(40 * -0.05)) / 40
    value = MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1).per_anchor(similarity, pairs)
    assert value.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.1, None])
def test_gradient_is_the_finite_difference(epsilon: float | None) -> None:
    loss = MultiSimilarityLoss(2.0, 40.0, 0.5, epsilon)
    z, y = random_batch(3)
    assert torch.autograd.gradcheck(lambda z: loss(z, y), z.requires_grad_())


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_pytorch_metric_learning(seed: int) -> None:
    z, y = random_batch(seed, size=40, classes=8)
    value, gradient = value_and_gradient(MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1), z, y)
    z.requires_grad_()
    peer = losses.MultiSimilarityLoss(2.0, 40.0, 0.5)(z, y, miners.MultiSimilarityMiner(0.1)(z, y))
    torch.testing.assert_close(value, peer.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(peer, z)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [40.0, 1000.0])
def test_similarities_of_exactly_one_and_minus_one(dtype: torch.dtype, beta: float) -> None:
    z = torch.tensor([[1, 0], [1, 0], [-1, 0], [1, 0], [-1, 0]], dtype=dtype)
    value, gradient = value_and_gradient(
        MultiSimilarityLoss(1000.0, beta, 0.5, 0.1), z, torch.tensor([0, 0, 0, 1, 1])
    )
    assert value.isfinite()
    assert gradient.isfinite().all()
    # Sharp exponentials see only the hardest pairs: a positive at −1 costs λ + 1, a negative at 1 costs
    # 1 − λ; ties add at most log(3)/β.
    assert value.item() == pytest.approx(2.0, abs=2 * math.log(3) / beta)


@pytest.mark.parametrize("name", ["one_class", "singletons", "single_image"])
def test_batches_without_both_kinds_give_a_zero_that_backpropagates(name: str) -> None:
    value, gradient = value_and_gradient(MultiSimilarityLoss(), *CASES[name])
    assert value == 0
    assert (gradient == 0).all()


def test_both_kinds_survive_mining_or_none() -> None:
    # In float32 the tie S_n + ε = S_p rounds differently from S_p − ε = S_n.
    generator = torch.Generator().manual_seed(0)
    positive = torch.rand(10000, generator=generator)
    similarity = torch.stack([positive, positive - 0.1], dim=1)
    true, false = torch.ones(10000, 1, dtype=torch.bool), torch.zeros(10000, 1, dtype=torch.bool)
    pairs = Pairs(torch.cat([true, false], 1), torch.cat([false, true], 1))
    loss = MultiSimilarityLoss(1.0, 1.0, 0.0, 0.1).per_anchor(similarity, pairs)
    alone = torch.log(1 + torch.exp(-positive))
    both = alone + torch.log(1 + torch.exp(positive - 0.1))
    assert (torch.isclose(loss, both) | (loss == 0)).all()


def test_autocast_changes_nothing() -> None:
    z, y = random_batch(0)
    loss, z32 = MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1), z.float()
    value, gradient = value_and_gradient(loss, z32, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast_value, cast_gradient = value_and_gradient(loss, z32, y)
    assert cast_value.dtype == torch.float32
    torch.testing.assert_close(cast_value, value, rtol=0, atol=0)
    torch.testing.assert_close(cast_gradient, gradient, rtol=0, atol=0)
    value, gradient = value_and_gradient(loss, z32.bfloat16(), y)
    assert value.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    assert gradient.isfinite().all()


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("epsilon", [0.1, None])
def test_nan_embeddings_give_nan(labels: list[int], epsilon: float | None) -> None:
    z = torch.randn(4, 3)
    z[1, 2] = torch.nan
    assert MultiSimilarityLoss(epsilon=epsilon)(z, torch.tensor(labels)).isnan()


@pytest.mark.parametrize("seed", range(3))
def test_ranks_with_all_references_sum_to_the_whole(seed: int) -> None:
    z, y = random_batch(seed)
    loss = MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1)
    whole, gradient = value_and_gradient(loss, z, y)
    z.requires_grad_()
    ranks = [slice(0, 5), slice(5, 12)]
    positions = torch.arange(12)
    value = sum(loss(z[r], y[r], z, y, positions[r]) * len(positions[r]) / 12 for r in ranks)
    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(torch.autograd.grad(value, z)[0], gradient)


def test_yaml() -> None:
    for name, expected in {"ms": (2, 40, 0.5, 0.1), "ms_paper": (2, 50, 1, 0.1)}.items():
        loss = from_yaml(f"loss/{name}")
        assert isinstance(loss, MultiSimilarityLoss)
        assert (loss.alpha, loss.beta, loss.lam, loss.epsilon) == expected
    assert from_yaml("loss/ms", epsilon=None).epsilon is None


@pytest.mark.parametrize(("alpha", "beta"), [(-1.0, 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_sharpness_must_be_positive(alpha: float, beta: float) -> None:
    with pytest.raises(ValueError, match=r"loss.alpha and loss.beta must be positive"):
        MultiSimilarityLoss(alpha, beta)
