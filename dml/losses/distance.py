"""Euclidean distances from cosine similarities."""

from jaxtyping import Float
from torch import Tensor


def euclidean_distance(similarity: Float[Tensor, "Q R"]) -> Float[Tensor, "Q R"]:
    """Euclidean distance of unit vectors, d = √(2 − 2S), in [0.001, 2].

    Below 0.001 float32 similarities cannot distinguish distances. There d is constant, and its gradient is
    zero instead of infinite.
    """
    return (2 - 2 * similarity).clamp_min(1e-6).sqrt()
