"""Random numbers that depend on a seed and a position, not on earlier draws."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# SplitMix64: Steele, Lea and Flood, OOPSLA 2014, Fast Splittable Pseudorandom Number Generators, figure 16. The
# constants are 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB as signed numbers.
STEP = -7046029254386353131
FACTORS = (-4658895280553007687, -7723592293110705685)
BITS = 23  # random bits of a number; adding 0.5 takes the 24th and last bit of a float32


def scattered(x: Int[Tensor, "*dims"]) -> Int[Tensor, "*dims"]:
    """SplitMix64's mixing function: a bijection of int64 that sends neighbours to unrelated numbers."""
    x = shifted(x, 30).bitwise_xor_(x).mul_(FACTORS[0])
    x = shifted(x, 27).bitwise_xor_(x).mul_(FACTORS[1])
    return shifted(x, 31).bitwise_xor_(x)


def shifted(x: Int[Tensor, "*dims"], bits: int) -> Int[Tensor, "*dims"]:
    """Right shift that fills with zeros; torch's own fills with the sign."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def uniform_rows(seed: int, index: Int[Tensor, "Q"], columns: int) -> Float[Tensor, "Q {columns}"]:
    """Uniform float32 numbers in (0, 1), one for each anchor and reference.

    A number depends only on the seed, the anchor's index and the reference's position. So a row has the same numbers
    in every chunk, on every process, on a CPU and on a GPU.

    Args:
        seed: any int64.
        index: (Q,) indices ≥ 0 of the anchors.
        columns: R, number of references.
    """
    row_Q = scattered(scattered(torch.full_like(index, seed)) + STEP * (index + 1))
    column_R = torch.arange(1, columns + 1, device=index.device)
    bits_QR = shifted(scattered(row_Q[:, None] + STEP * column_R), 64 - BITS)
    return bits_QR.float().add_(0.5).mul_(2.0**-BITS)
