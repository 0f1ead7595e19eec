"""Schedules that follow the length of a run."""

import pytest
import torch

from dml.config.schedulers import multistep
from dml.errors import Note, UserError


def rates(milestones: list[float], max_steps: int = 10) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = multistep(optimizer, milestones, max_steps, gamma=0.1)
    taken = []
    for _ in range(max_steps):
        taken.append(round(optimizer.param_groups[0]["lr"], 6))
        optimizer.step()
        schedule.step()
    return taken


@pytest.mark.parametrize("milestones", [[0.4, 0.8], [4, 8], [4, 0.8]])
def test_a_milestone_is_a_share_of_the_run_or_a_step(milestones):
    assert rates(milestones) == [1.0] * 4 + [0.1] * 4 + [0.01] * 2


@pytest.mark.parametrize("milestone", [1.5, 3.0, -1, -0.1])
def test_anything_else_is_refused(milestone):
    with pytest.raises(UserError, match=rf"scheduler\.milestones: {milestone} must be a step"):
        rates([milestone])


@pytest.mark.parametrize("milestone", [1, 1.0, 10, 600])
def test_a_milestone_that_no_step_reaches_is_noted(milestone):
    with pytest.warns(Note, match=rf"{milestone} is step \d+, which a run of 10 steps never takes"):
        assert rates([milestone]) == [1.0] * 10
