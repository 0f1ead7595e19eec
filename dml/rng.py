"""The state of a process's random numbers, to go on from in another process."""

import numpy as np
import torch
from torch import Tensor


def rng_state() -> dict[str, Tensor]:
    """torch's generators, of the CPU and of this process's GPU.

    Only dropout and the like draw from them; batches and augmentation follow from (seed, epoch, step) alone, and what
    a mining draws from `seed_of_step`.
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


def seed_of_step(seed: int, step: int, stream: int = 0) -> int:
    """The seed of one step's draws, 0 … 2⁶³ − 1: the same in a run that was resumed.

    Args:
        seed: the run's, ≥ 0.
        step: of the optimiser, ≥ 0.
        stream: tells apart what draws for itself, such as processes with a batch of their own; ≥ 0.
    """
    return int(np.random.SeedSequence([seed, step, stream]).generate_state(1, np.uint64)[0]) >> 1
