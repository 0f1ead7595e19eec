"""Learning-rate schedules that follow the length of a run."""

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR


def multistep(optimizer: Optimizer, milestones: Sequence[float], max_steps: int, gamma: float) -> MultiStepLR:
    """The learning rate multiplied by `gamma` at each milestone, a share of `max_steps` in [0, 1]."""
    return MultiStepLR(optimizer, [round(share * max_steps) for share in milestones], gamma)
