"""The border between cosine similarities and distances."""

from jaxtyping import Float
from torch import Tensor


def euclidean_distance(similarity: Float[Tensor, "Q R"]) -> Float[Tensor, "Q R"]:
    """Euclidean distance of unit vectors, d = √(2 − 2S), in [0.001, 2].

    Below 0.001, where float32 similarities can tell no two distances apart, d is constant and its gradient
    zero instead of infinite.
    """
    return (2 - 2 * similarity).clamp_min(1e-6).sqrt()
