import pytest
import torch
from torch import Tensor

from dml.losses.spherical import SphericalConstraint


def with_lengths(*lengths: float) -> Tensor:
    """Embeddings of these lengths, in float64."""
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(len(lengths), 5, generator=generator, dtype=torch.float64)
    return f / f.norm(dim=1, keepdim=True) * torch.tensor(lengths, dtype=torch.float64)[:, None]


def naive(f: Tensor, eta: float) -> Tensor:
    """The formula, with the mean length not held constant."""
    lengths = [sum(x * x for x in row) ** 0.5 for row in f]
    mean = sum(lengths) / len(f)
    return eta * sum((length - mean) ** 2 for length in lengths) / len(f)


def test_a_worked_example() -> None:
    # Lengths 1, 2 and 6 with mean 3: (4 + 1 + 9) / 3, times a half.
    assert SphericalConstraint(0.5)(with_lengths(1, 2, 6)).item() == pytest.approx(14 / 6)


def test_equals_a_loop_whose_mean_has_a_gradient_too() -> None:
    f = with_lengths(0.5, 1, 2, 6, 0.1).requires_grad_()
    value, expected = SphericalConstraint(0.7)(f), naive(f, 0.7)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, f), torch.autograd.grad(expected, f))
    assert torch.autograd.gradcheck(SphericalConstraint(0.7), f)


def test_lengths_of_half_precision_are_not_rounded_to_it() -> None:
    f = with_lengths(30.0, 30.1, 30.2, 30.3).bfloat16()
    assert SphericalConstraint()(f) == SphericalConstraint()(f.float())


def test_it_changes_lengths_and_no_directions() -> None:
    f = with_lengths(1, 3).requires_grad_()
    SphericalConstraint()(f).backward()
    assert f.grad is not None
    # Along f: the longer one is shortened, the shorter one lengthened.
    assert (f.grad * f.detach()).sum(dim=1).sign().tolist() == [-1, 1]
    cosine = torch.cosine_similarity(f.grad, f.detach())
    torch.testing.assert_close(cosine.abs(), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("lengths", [(2.0,), (2.0, 2.0, 2.0), (0.0, 0.0)])
def test_equal_lengths_give_a_zero_that_backpropagates(lengths: tuple[float, ...]) -> None:
    f = with_lengths(*lengths).requires_grad_()
    value = SphericalConstraint()(f)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-30)
    assert f.grad is not None
    assert f.grad.abs().max() < 1e-15


def test_nan_is_not_hidden() -> None:
    assert SphericalConstraint()(with_lengths(1, torch.nan)).isnan()


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"regularizer\.eta must not be negative, not -1"):
        SphericalConstraint(-1.0)
