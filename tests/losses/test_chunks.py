"""Rows in chunks: the same value and gradient, whatever the chunk."""

import pytest
import torch
from loss_cases import DIM, random_batch
from loss_factories import LOSSES, make
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dml.errors import UserError
from dml.losses import DistanceWeightedMining, MarginLoss, MultiSimilarityLoss, PairLoss
from dml.losses.chunks import AUTO_BYTES, anchors_at_a_time, check_chunk

every_loss = pytest.mark.parametrize("name", LOSSES)


def gradients(loss: PairLoss, value: Tensor, *inputs: Tensor) -> list[Tensor | None]:
    """Of three times the value, with respect to the inputs and to what the loss learns."""
    return list(torch.autograd.grad(3 * value, [*inputs, *loss.parameters()], allow_unused=True))


def chunked(loss: PairLoss, chunk: object) -> PairLoss:
    loss.chunk = chunk
    return loss


@every_loss
@pytest.mark.parametrize("chunk", [1, 5, 12, 13, 100])
def test_value_and_gradient_are_those_of_all_rows_at_once(name, chunk):
    z, y = random_batch(0, size=13, dim=DIM)
    z.requires_grad_()
    whole, parts = chunked(make(name), None), chunked(make(name), chunk)
    one, other = whole(z, y), parts(z, y)
    assert one != 0
    torch.testing.assert_close(other, one, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients(parts, other, z), gradients(whole, one, z), rtol=0, atol=1e-6)


@every_loss
def test_references_and_anchors_both_get_their_gradient(name):
    (z, y), (r, x) = random_batch(0, size=7, dim=DIM), random_batch(1, size=9, dim=DIM)
    index = torch.tensor([3, 0, 8, 1, 2, 5, 4])
    z.requires_grad_()
    r.requires_grad_()
    whole, parts = chunked(make(name), None), chunked(make(name), 3)
    one, other = whole(z, y, r, x, index), parts(z, y, r, x, index)
    torch.testing.assert_close(gradients(parts, other, z, r), gradients(whole, one, z, r), rtol=0, atol=1e-6)


@pytest.mark.parametrize("learning", ["anchors", "references", "parameters"])
def test_only_what_learns_gets_a_gradient(learning):
    (z, y), (r, x) = random_batch(0, size=7, dim=DIM), random_batch(1, size=9, dim=DIM)
    z.requires_grad_(learning == "anchors")
    r.requires_grad_(learning == "references")
    results = []
    for chunk in (None, 3):
        loss = chunked(make("margin"), chunk).requires_grad_(learning == "parameters")
        (learner,) = [p for p in (z, r, *loss.parameters()) if p.requires_grad]
        results.append(torch.autograd.grad(loss(z, y, r, x), learner)[0])
    assert results[0].abs().max() > 0
    torch.testing.assert_close(results[1], results[0])


def test_low_precision_and_autocast_change_as_little_as_without_chunks():
    z, y = random_batch(0, size=13, dim=DIM)
    half = z.bfloat16().requires_grad_()
    results = []
    for chunk in (None, 5):
        loss = chunked(make("ms"), chunk)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(half, y)
        results.append((value, torch.autograd.grad(value, half)[0]))
    assert results[1][0].dtype == torch.float32
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-6)


def test_random_mining_draws_once_for_each_chunk():
    z, y = random_batch(0, size=13, dim=DIM)
    z.requires_grad_()
    loss = MarginLoss(mining=DistanceWeightedMining(DIM, max_distance=2.0)).double()
    torch.manual_seed(0)
    by_hand = sum(loss(z[i], y[i], z, y, i) * len(i) / len(y) for i in torch.arange(len(y)).split(5))
    state = torch.get_rng_state()
    torch.manual_seed(0)
    value = chunked(loss, 5)(z, y)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(value, by_hand)
    torch.testing.assert_close(gradients(loss, value, z), gradients(loss, by_hand, z))


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


class LargestTensor(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation gives back."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = out if isinstance(out, (tuple, list)) else (out,)
        self.elements = max([self.elements, *(part.numel() for part in given if isinstance(part, Tensor))])
        return out


@every_loss
def test_no_tensor_is_larger_than_a_chunk_of_similarities(name):
    z, y = random_batch(0, size=200, classes=20, dim=DIM)
    z.requires_grad_()
    loss = chunked(make(name), 4)
    with LargestTensor() as largest:
        loss(z, y).backward()
    assert largest.elements <= max(4 * 200 + 200, 200 * DIM)


def test_each_row_is_computed_once():
    class Counting(MultiSimilarityLoss):
        def per_anchor(self, similarity, pairs):
            seen.append((len(similarity), similarity.requires_grad))
            return super().per_anchor(similarity, pairs)

    z, y = random_batch(0, size=10)
    z.requires_grad_()
    seen: list[tuple[int, bool]] = []
    loss = chunked(Counting(), 4)
    loss(z, y).backward()
    assert seen == [(4, True), (4, True), (2, True)]
    seen.clear()
    with torch.no_grad():
        loss(z, y)
    assert seen == [(4, False), (4, False), (2, False)]


def test_backward_may_run_twice_but_not_through_itself():
    z, y = random_batch(0)
    z.requires_grad_()
    value = chunked(make("ms"), 4)(z, y)
    value.backward(retain_graph=True)
    once = z.grad.clone()
    value.backward()
    torch.testing.assert_close(z.grad, 2 * once)
    with pytest.raises(RuntimeError, match="not differentiable twice"):
        torch.autograd.grad(chunked(make("ms"), 4)(z, y), z, create_graph=True)


def test_auto_takes_all_anchors_until_their_similarities_are_many():
    assert PairLoss.chunk == "auto"
    assert anchors_at_a_time("auto", 80, 80, 4) == 80
    assert anchors_at_a_time("auto", 2048, 2048, 4) == 2048
    assert anchors_at_a_time("auto", 2049, 2049, 4) == 2047
    assert anchors_at_a_time("auto", 65_536, 65_536, 4) == 64
    assert anchors_at_a_time("auto", 65_536, 65_536, 8) == 32
    assert anchors_at_a_time("auto", 3, AUTO_BYTES, 4) == 1
    assert anchors_at_a_time(None, 65_536, 65_536, 4) == 65_536


@pytest.mark.parametrize("chunk", [0, -3, 1.5, "all"])
def test_what_is_no_chunk_is_refused(chunk):
    with pytest.raises(UserError, match=rf"loss\.chunk={chunk} must be at least 1, or auto"):
        check_chunk(chunk)


def test_a_loss_refuses_it_too():
    with pytest.raises(UserError, match=r"loss\.chunk=0"):
        chunked(make("ms"), 0)(*random_batch(0))
