"""Random numbers that follow from what they are for, not from how many were drawn before."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# SplitMix64: Steele, Lea and Flood, OOPSLA 2014, Fast Splittable Pseudorandom Number Generators, figure 16. The
# constants are 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB as signed numbers.
STEP = -7046029254386353131
FACTORS = (-4658895280553007687, -7723592293110705685)
BITS = 23  # of each number; a float32 between 0 and 1 has room for one more


def scattered(x: Int[Tensor, "*dims"]) -> Int[Tensor, "*dims"]:
    """Each int64 sent to another, neighbours to places that have nothing to do with each other."""
    x = shifted(x, 30).bitwise_xor_(x).mul_(FACTORS[0])
    x = shifted(x, 27).bitwise_xor_(x).mul_(FACTORS[1])
    return shifted(x, 31).bitwise_xor_(x)


def shifted(x: Int[Tensor, "*dims"], bits: int) -> Int[Tensor, "*dims"]:
    """Bits moved to the right, zeros moving in; torch's own shift moves in the sign."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def uniform_rows(seed: int, index: Int[Tensor, "Q"], columns: int) -> Float[Tensor, "Q {columns}"]:
    """A number between 0 and 1, both excluded, for each anchor and reference, float32.

    It follows from the seed, the anchor's index and the reference's position alone: any share of the rows is the same
    wherever and however often it is computed, on a CPU as on a GPU.

    Args:
        seed: any int64; another gives other numbers.
        index: (Q,) what tells anchors apart, ≥ 0.
        columns: R, number of references.
    """
    row_Q = scattered(scattered(torch.full_like(index, seed)) + STEP * (index + 1))
    column_R = torch.arange(1, columns + 1, device=index.device)
    bits_QR = shifted(scattered(row_Q[:, None] + STEP * column_R), 64 - BITS)
    return bits_QR.float().add_(0.5).mul_(2.0**-BITS)
