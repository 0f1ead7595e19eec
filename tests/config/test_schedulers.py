"""Schedules that follow the length of a run."""

import torch

from dml.config.schedulers import multistep


def test_milestones_are_shares_of_the_run():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = multistep(optimizer, milestones=[0.4, 0.8], max_steps=10, gamma=0.1)
    rates = []
    for _ in range(10):
        rates.append(round(optimizer.param_groups[0]["lr"], 6))
        optimizer.step()
        schedule.step()
    assert rates == [1.0] * 4 + [0.1] * 4 + [0.01] * 2
