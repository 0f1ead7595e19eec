"""The bar on a terminal: a validation moves its own, and does not count for the time left."""

import time
from types import SimpleNamespace

import pytest

from dml.callbacks.progress import TrainingBar


@pytest.fixture
def bar():
    bar = TrainingBar(refresh_rate=10)
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn="fit"), sanity_checking=False, progress_bar_metrics={}, num_val_batches=[3]
    )
    bar._trainer = trainer
    bar.get_metrics = lambda *_: {}
    bar.on_train_start()
    return bar


def test_a_validation_does_not_count_for_the_time_left(bar):
    began = bar.train_progress_bar.start_t
    bar.on_validation_start(bar.trainer, None)
    time.sleep(0.2)
    bar.on_validation_end(bar.trainer, None)
    assert 0.2 <= bar.train_progress_bar.start_t - began < 5


def test_a_validation_of_few_batches_moves_at_each(bar):
    bar.on_validation_start(bar.trainer, None)
    bar.val_progress_bar.total, seen = 3, []
    for batch in range(3):
        bar.on_validation_batch_end(bar.trainer, None, None, None, batch)
        seen.append(bar.val_progress_bar.n)
    assert seen == [1, 2, 3]
    assert "metrics" in bar.val_progress_bar.desc
    assert bar.refresh_rate == 10
