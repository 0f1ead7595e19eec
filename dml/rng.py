"""The state of a process's random numbers, to go on from in another process."""

import torch
from torch import Tensor


def rng_state() -> dict[str, Tensor]:
    """torch's generators, of the CPU and of this process's GPU.

    Only dropout and the like draw from them; batches and augmentation follow from (seed, epoch, step) alone.
    """
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Tensor]) -> None:
    """Go on from `rng_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
