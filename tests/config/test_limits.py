"""Lightning's limits that would make Recall@K one of a part of the images."""

import pytest
from omegaconf import OmegaConf

from dml.config.limits import check_limits
from dml.errors import UserError
from dml.runs.training import train


@pytest.mark.parametrize(
    "limit",
    [
        "fast_dev_run=true",
        "fast_dev_run=yes",
        "fast_dev_run=1",
        "fast_dev_run=7",
        "overfit_batches=1",
        "overfit_batches=0.5",
        "overfit_batches=1.0",
        "limit_val_batches=0",
        "limit_val_batches=0.0",
        "limit_val_batches=1",
        "limit_val_batches=0.99",
        "limit_val_batches=1000000",
        "limit_test_batches=0.5",
        "limit_test_batches=2",
        "num_sanity_val_steps=2",
    ],
)
def test_a_part_of_the_images_is_refused_before_any_work(compose, tmp_path, limit):
    key = limit.partition("=")[0]
    with pytest.raises(UserError, match=rf"^trainer\.{key}=\S+ would evaluate a part of the images"):
        train(compose(f"++trainer.{limit}"))
    assert not list(tmp_path.iterdir())


def test_whole_evaluations_pass():
    whole = {"fast_dev_run": [False, 0, None], "overfit_batches": [0, 0.0], "num_sanity_val_steps": [0, -1]}
    whole |= {f"limit_{stage}_batches": [1.0, None] for stage in ("val", "test")}
    for key, values in whole.items():
        for value in values:
            check_limits(OmegaConf.create({key: value, "max_time": "00:00:01:00", "limit_train_batches": 3}))
