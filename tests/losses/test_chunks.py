"""Rows in chunks: the same value and gradient, whatever the chunk."""

import pytest
import torch

from dml.losses import DistanceWeightedMining, MarginLoss, MultiSimilarityLoss
from dml.losses.chunks import rows_in_chunks


@pytest.mark.parametrize("chunk", [1, 5, 12, 13, 100])
def test_value_and_gradient_are_those_of_all_rows_at_once(chunk):
    torch.manual_seed(0)
    label = torch.randint(0, 4, (13,))
    whole = torch.randn(13, 6, requires_grad=True)
    parts = whole.detach().clone().requires_grad_()
    loss, chunked = MultiSimilarityLoss(), MultiSimilarityLoss()
    chunked.chunk = chunk
    one, other = loss(whole, label), chunked(parts, label)
    (3 * one).backward()
    (3 * other).backward()
    assert one > 0
    assert torch.allclose(one, other, rtol=1e-6, atol=0)
    assert torch.allclose(whole.grad, parts.grad, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_negatives_drawn_at_random_are_those_of_all_rows_at_once(chunk):
    torch.manual_seed(0)
    label = torch.randint(0, 4, (13,))
    whole = torch.randn(13, 6, requires_grad=True)
    parts = whole.detach().clone().requires_grad_()
    loss, chunked = (MarginLoss(mining=DistanceWeightedMining(6, max_distance=1.9)) for _ in range(2))
    loss.seed = chunked.seed = 3
    chunked.chunk = chunk
    loss(whole, label).backward()
    chunked(parts, label).backward()
    assert whole.grad.abs().max() > 1e-3
    assert torch.allclose(whole.grad, parts.grad, atol=1e-6)


def test_references_get_their_gradient_too():
    torch.manual_seed(0)
    anchor, label = torch.randn(7, 4), torch.arange(7) % 2
    whole = torch.randn(9, 4, requires_grad=True)
    parts = whole.detach().clone().requires_grad_()
    loss = MultiSimilarityLoss()
    loss(anchor, label, whole, torch.arange(9) % 2).backward()
    loss.chunk = 3
    loss(anchor, label, parts, torch.arange(9) % 2).backward()
    assert whole.grad.abs().max() > 0
    assert torch.allclose(whole.grad, parts.grad, atol=1e-6)


def test_never_more_than_a_chunk_of_rows_exists():
    seen = []

    def rows(z_QD, *_):
        seen.append(len(z_QD))
        return z_QD.exp().sum(dim=1)

    z_BD = torch.ones(10, 2, requires_grad=True)
    label = torch.zeros(10, dtype=torch.int64)
    rows_in_chunks(rows, 4, z_BD, label, z_BD, label, None).sum().backward()
    assert seen == [4, 4, 2, 2, 4, 4]  # forward, and again in backward
