"""What every loss promises, on batches that hypothesis makes up."""

import pytest
import torch
from hydra.errors import InstantiationException
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import DIM, batches, from_yaml, similarity_and_pairs, value_and_gradient
from loss_factories import FILES, LOSSES, make
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import dml.losses
from dml.errors import UserError
from dml.losses import PairLoss
from dml.losses.labels import check_label_each

CLASSES = 4
ANCHORED_AT_IMAGES = [name for name in LOSSES if name != "proxy_anchor"]

every_loss = pytest.mark.parametrize("name", LOSSES)
fast = settings(max_examples=10, deadline=None, derandomize=True)


@st.composite
def batch(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Up to 16 embeddings, some of them duplicates, in up to four classes."""
    size = draw(st.integers(1, 16))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    z = torch.randn(size, DIM, generator=generator, dtype=torch.float64)
    source = torch.tensor(draw(st.lists(st.integers(0, size - 1), min_size=size, max_size=size)))
    z = z[source] if draw(st.booleans()) else z
    labels = draw(st.lists(st.integers(0, CLASSES - 1), min_size=size, max_size=size))
    return z, torch.tensor(labels)


def gradient_of_rows(loss: PairLoss, z: Tensor, y: Tensor) -> tuple[Tensor, dml.losses.Pairs]:
    similarity, pairs = similarity_and_pairs(z, y)
    S = similarity.requires_grad_()
    (gradient,) = torch.autograd.grad(loss.per_anchor(S, pairs).sum(), S)
    return gradient, pairs


@every_loss
@fast
@given(batch())
def test_positives_are_drawn_near_and_negatives_pushed_away(name: str, zy: tuple[Tensor, Tensor]) -> None:
    gradient, pairs = gradient_of_rows(make(name), *zy)
    if name == "supervised_contrastive":
        # Its positives compete, so it keeps the promise for their sum: see its docstring.
        assert (torch.where(pairs.positive, gradient, 0).sum(dim=1) <= 1e-9).all()
    else:
        assert (gradient[pairs.positive] <= 0).all()
    assert (gradient[pairs.negative] >= 0).all()
    assert (gradient[~(pairs.positive | pairs.negative)] == 0).all()


@every_loss
@fast
@given(batch())
def test_an_anchor_does_not_depend_on_the_rows_of_others(name: str, zy: tuple[Tensor, Tensor]) -> None:
    loss = make(name)
    similarity, pairs = similarity_and_pairs(*zy)
    together = loss.per_anchor(similarity, pairs)
    i = len(together) // 2
    row = dml.losses.Pairs(*(part[i : i + 1] for part in pairs[:4]), ref_label=pairs.ref_label)
    torch.testing.assert_close(loss.per_anchor(similarity[i : i + 1], row), together[i : i + 1])


@every_loss
@fast
@given(batch(), st.randoms(use_true_random=False))
def test_the_order_of_the_batch_does_not_matter(name: str, zy: tuple[Tensor, Tensor], random) -> None:
    z, y = zy
    order = list(range(len(y)))
    random.shuffle(order)
    loss = make(name)
    value, gradient = value_and_gradient(loss, z, y)
    shuffled_value, shuffled_gradient = value_and_gradient(loss, z[order], y[order])
    torch.testing.assert_close(shuffled_value, value, rtol=0, atol=1e-6)
    # Of duplicates in two classes either may be the harder by a rounding.
    if len(z.unique(dim=0)) == len(z):
        torch.testing.assert_close(shuffled_gradient, gradient[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ANCHORED_AT_IMAGES)
@fast
@given(batch(), st.integers(0, 16))
def test_shares_of_the_anchors_sum_to_the_whole(name: str, zy: tuple[Tensor, Tensor], cut: int) -> None:
    z, y = zy
    loss, index = make(name), torch.arange(len(y))
    whole, gradient = value_and_gradient(loss, z, y)
    z.requires_grad_()
    shares = [part for part in (index[:cut], index[cut:]) if len(part)]
    total = sum(loss(z[part], y[part], z, y, part) * len(part) / len(y) for part in shares)
    torch.testing.assert_close(total, whole)
    torch.testing.assert_close(torch.autograd.grad(total, z)[0], gradient)


@every_loss
@pytest.mark.parametrize("batch_name", list(batches()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_batches_give_numbers(name: str, batch_name: str, dtype: torch.dtype) -> None:
    z, y = batches()[batch_name]
    value, gradient = value_and_gradient(make(name).to(dtype), z[:, :DIM].to(dtype), y)
    assert value.isfinite()
    assert value.dtype == dtype
    assert gradient.isfinite().all()


@every_loss
def test_a_row_without_pairs_is_a_zero_that_backpropagates(name: str) -> None:
    similarity = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(3, 4, dtype=torch.bool)
    rows = make(name).per_anchor(similarity, dml.losses.Pairs(none, none, torch.arange(3)))
    assert (rows == 0).all()
    (gradient,) = torch.autograd.grad(rows.sum(), similarity)
    assert (gradient == 0).all()


@every_loss
def test_nan_is_not_hidden(name: str) -> None:
    z, y = batches()["random"]
    z = z[:, :DIM].clone()
    z[1, 2] = torch.nan
    assert make(name)(z, y).isnan()


@every_loss
def test_autocast_changes_nothing(name: str) -> None:
    z, y = batches()["random"]
    z, loss = z[:, :DIM].float(), make(name).float()
    value, gradient = value_and_gradient(loss, z, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = value_and_gradient(loss, z, y)
    torch.testing.assert_close(cast, (value, gradient), rtol=0, atol=0)


@every_loss
def test_references_and_labels_come_together(name: str) -> None:
    z, y = batches()["random"]
    z = z[:, :DIM]
    with pytest.raises(ValueError, match="together, or neither"):
        make(name)(z, y, z)
    with pytest.raises(ValueError, match="batch is empty"):
        make(name)(z[:0], y[:0])


@every_loss
def test_integers_of_any_width_are_labels(name: str) -> None:
    z, y = batches()["random"]
    z, loss, index = z[:, :DIM], make(name), torch.arange(len(y))
    assert loss(z, y.to(torch.int8), z, y.int(), index) == loss(z, y, z, y, index)


def test_every_loss_has_a_file() -> None:
    public = [getattr(dml.losses, name) for name in dml.losses.__all__]
    losses = {cls for cls in public if isinstance(cls, type) and issubclass(cls, PairLoss)} - {PairLoss}
    assert losses <= {type(make(name)) for name in FILES}


class NoFloat64(TorchDispatchMode):
    """Refuses to make what Apple's GPUs do not have."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else (out,):
            assert not (isinstance(part, Tensor) and part.dtype == torch.float64), func
        return out


@every_loss
@pytest.mark.parametrize("chunk", [None, 5])
def test_float32_needs_no_float64(name: str, chunk: int | None) -> None:
    z, y = batches()["random"]
    z, loss = z[:, :DIM].float().requires_grad_(), make(name).float()
    loss.chunk = chunk
    with NoFloat64():
        loss(z, y).backward()
    assert z.grad is not None


@every_loss
def test_references_may_not_be_empty(name: str) -> None:
    z, y = batches()["random"]
    z = z[:, :DIM]
    with pytest.raises(ValueError, match="There are no references"):
        make(name)(z, y, z[:0], y[:0])


def test_labels_that_would_broadcast_are_refused() -> None:
    y = torch.arange(12)
    for labels in (y[:1], y[:, None], y.double()):
        # Called itself: in the tests, not elsewhere, the types of the losses' arguments are checked.
        with pytest.raises(
            ValueError, match="labels must be one whole number for each of 12 embeddings, not torch"
        ):
            check_label_each("labels", labels, 12)
    check_label_each("labels", y, 12)


@pytest.mark.parametrize("name", [name for name in FILES if list(make(name).parameters())])
@pytest.mark.parametrize("wrong", [-1, 20])
def test_a_label_without_parameters_is_named(name: str, wrong: int) -> None:
    z, y = batches()["random"]
    z, y, loss = z[:, :DIM], y.clone(), make(name)
    y[3] = wrong
    message = f"Label {wrong} is not among the 20 classes of the loss: labels must be 0 to 19"
    with pytest.raises(UserError, match=message):
        loss(z, y)
    loss.chunk = 5
    with pytest.raises(UserError, match=message):
        loss(z, y)


@pytest.mark.parametrize("name", [name for name in FILES if list(make(name).parameters())])
def test_there_must_be_a_class(name: str) -> None:
    with pytest.raises(InstantiationException, match=r"loss\.num_classes=0 must be at least 1"):
        from_yaml(f"loss/{name}", num_classes=0)
