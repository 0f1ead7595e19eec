"""Global pooling: a feature map to one number per channel."""

from jaxtyping import Float
from torch import Tensor, nn

from dml.errors import UserError


def max_pool(maps: Float[Tensor, "B F h w"]) -> Float[Tensor, "B F"]:
    """The maximum of each channel."""
    return maps.amax(dim=(2, 3))


def mean_pool(maps: Float[Tensor, "B F h w"]) -> Float[Tensor, "B F"]:
    """The mean of each channel."""
    return maps.mean(dim=(2, 3))


def sum_of_both(maps: Float[Tensor, "B F h w"]) -> Float[Tensor, "B F"]:
    """The sum of maximum and mean of each channel."""
    return max_pool(maps) + mean_pool(maps)


class GlobalPool(nn.Module):
    """Global max pooling, mean pooling, or the sum of both.

    Args:
        pool: "max", "mean" or "sum".

    Raises:
        UserError: `pool` is none of them.
    """

    def __init__(self, pool: str) -> None:
        super().__init__()
        poolings = {"max": max_pool, "mean": mean_pool, "sum": sum_of_both}
        if pool not in poolings:
            raise UserError(f"model.pool must be max, mean or sum (of both), not {pool!r}.")
        self.pool = poolings[pool]

    def forward(self, maps: Float[Tensor, "B F h w"]) -> Float[Tensor, "B F"]:
        return self.pool(maps)
