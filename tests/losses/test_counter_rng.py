"""Numbers that look random and depend on seed, row and column alone."""

import pytest
import torch

from dml.losses.distance_weighted import STEP, scattered, uniform_rows
from dml.module import seed_of_step


def test_the_first_numbers_of_splitmix64():
    # From the authors' generator, started at 0.
    first = scattered(STEP * torch.tensor([1, 2, 3]))
    assert [n % 2**64 for n in first.tolist()] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_a_row_is_the_same_among_any_others():
    whole_QR = uniform_rows(7, torch.arange(9), 20)
    assert torch.equal(uniform_rows(7, torch.tensor([6, 2]), 20), whole_QR[[6, 2]])
    assert torch.equal(uniform_rows(7, torch.arange(9), 5), whole_QR[:, :5])


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_numbers_are_even_and_rows_columns_and_seeds_independent(seed):
    x_QR = uniform_rows(seed, torch.arange(400), 500)
    assert 0 < x_QR.min() < 1e-4
    assert 1 - 1e-4 < x_QR.max() < 1
    share = torch.histc(x_QR, 20, 0, 1) / x_QR.numel()
    assert torch.allclose(share, torch.tensor(0.05), atol=0.003)  # six deviations
    centred_QR = x_QR - 0.5
    other_QR = uniform_rows(seed - 1, torch.arange(400), 500) - 0.5
    shifted = (
        (centred_QR[1:], centred_QR[:-1]),
        (centred_QR[:, 1:], centred_QR[:, :-1]),
        (centred_QR, other_QR),
    )
    for one, other in shifted:
        assert abs((one * other).mean() * 12) < 6 * one.numel() ** -0.5  # correlation


def test_seeds_differ_by_run_step_and_stream():
    seeds = {
        seed_of_step(seed, step, stream) for seed in range(3) for step in range(3) for stream in range(3)
    }
    assert len(seeds) == 27
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of_step(1, 2, 0) == seed_of_step(1, 2)
