"""Collapsed embeddings are told from those of a few tight clusters, few images or an untrained network."""

import pytest
import torch

from dml.retrieval.collapse import is_collapsed, participation_ratio

NOISE, LINE = torch.randn(60, 8), torch.linspace(-1, 1, 60)[:, None] * torch.eye(8)[1]
ONE = torch.eye(8)[:1].expand(60, 8)


def clusters(count: int) -> torch.Tensor:
    """Embeddings of as many classes, one dimension each."""
    return torch.eye(8)[torch.arange(60) % count] + 0.01 * NOISE


@pytest.mark.parametrize(
    "z",
    [
        ONE,
        ONE * 3,
        0 * ONE,
        ONE + 1e-4 * NOISE,  # the rounding of half precision
        ONE * torch.tensor([1.0, -1.0]).repeat(30)[:, None],
        ONE + 0.3 * LINE + 0.005 * NOISE,  # a diverged run
        ONE.where(torch.arange(60)[:, None] > 0, torch.nan),
        ONE / 0.0,
    ],
)
def test_collapsed(z: torch.Tensor) -> None:
    assert is_collapsed(z)
    assert is_collapsed(z.repeat(40, 1).to(torch.bfloat16).float())


@pytest.mark.parametrize(
    "z",
    [
        clusters(2),
        clusters(3),
        clusters(8),
        NOISE,
        NOISE[:4],
        ONE + 0.1 * NOISE,  # an untrained network
        ONE[:9] + 0.1 * NOISE[:9],
    ],
)
def test_not_collapsed(z: torch.Tensor) -> None:
    assert not is_collapsed(z)
    assert not is_collapsed(z * 7)


def test_participation_by_hand() -> None:
    assert participation_ratio(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(2)
    assert participation_ratio(torch.tensor([[2.0, 0.0], [0.0, 1.0]])) == pytest.approx(25 / 17)
    assert participation_ratio(torch.tensor([[3.0, 4.0], [6.0, 8.0]])) == pytest.approx(1)
