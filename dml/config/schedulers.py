"""Learning-rate schedules that follow the length of a run."""

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from dml.errors import UserError, note


def multistep(
    optimizer: Optimizer, milestones: Sequence[int | float], max_steps: int, gamma: float
) -> MultiStepLR:
    """The learning rate multiplied by `gamma` at each milestone.

    Args:
        optimizer: whose learning rate it is.
        milestones: each a step, a whole number above 1, or a share of `max_steps` in [0, 1]; 1 and 1.0 are the whole
            run, at whose end no step follows.
        max_steps: length of the run.
        gamma: the factor.

    Raises:
        UserError: a milestone is neither a step nor a share.
    """
    steps = [_step(milestone, max_steps) for milestone in milestones]
    for milestone, step in zip(milestones, steps, strict=True):
        if step >= max_steps:
            note(
                f"scheduler.milestones: {milestone} is step {step}, which a run of {max_steps} steps never takes."
            )
    return MultiStepLR(optimizer, steps, gamma)


def _step(milestone: int | float, max_steps: int) -> int:
    if 0 <= milestone <= 1:
        return round(milestone * max_steps)
    if isinstance(milestone, int) and milestone > 1:
        return milestone
    raise UserError(
        f"scheduler.milestones: {milestone} must be a step, a whole number above 1, or a share of trainer.max_steps, "
        "from 0 to 1."
    )
