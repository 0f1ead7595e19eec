"""The training batches: one endless sequence, whoever prepares it and however it is interrupted."""

import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from dml.data import loader as loader_module
from dml.data.dataset import ImageDataset
from dml.data.loader import TrainLoader
from dml.data.sampler import PKBatchSampler
from dml.data.split import Samples
from dml.data.tasks import Tasks
from dml.errors import UserError

CLASSES, EACH, STEPS = 4, 6, 5
SIDE = 8


def loader(workers: int = 0, task: int = 3, **options: Any) -> TrainLoader:
    """Of images that are their own number; asks a worker for `task` batches at once."""
    count = CLASSES * EACH
    images = np.broadcast_to(np.arange(count)[:, None, None], (count, SIDE, SIDE)).astype(np.uint8)
    samples = Samples(images, np.arange(count) // EACH, [str(n) for n in range(count)])
    return over(samples, workers, task, **options)


def over(samples: Samples, workers: int, task: int, **options: Any) -> TrainLoader:
    sampler = PKBatchSampler(samples.labels, 2, 2, steps_per_epoch=STEPS, seed=3)
    ours = TrainLoader(ImageDataset(samples, channels=1), sampler, workers=workers, **options)
    ours.at_once = task
    return ours


def indices(batches: list[dict[str, Tensor]]) -> list[list[int]]:
    """The images' numbers, which are also their grey levels."""
    for batch in batches:
        assert ((batch["image"] * 255).round() == batch["index"][:, None, None, None]).all()
    return [batch["index"].tolist() for batch in batches]


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    """Of three epochs."""
    ours = loader()
    return [index for _ in range(3) for index in indices(list(ours))]


def test_tasks_hold_every_batch_once_and_in_order() -> None:
    batches = [[1, 2], [3], [4], [5, 6], [7]]
    assert list(Tasks(batches, 2)) == [[[1, 2], [3]], [[4], [5, 6]], [[7]]]
    assert list(Tasks(batches)) == [[batch] for batch in batches]
    assert list(Tasks([], 2)) == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("task", [1, 2, 3, 7])
def test_epochs_follow_each_other_whatever_a_worker_is_asked_for(
    workers: int, task: int, expected: list
) -> None:
    """Five batches an epoch: tasks of 2, 3 and 7 straddle its end."""
    ours = loader(workers, task)
    epochs = [list(ours) for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [STEPS] * 3 == [len(ours)] * 3
    assert [index for epoch in epochs for index in indices(epoch)] == expected
    assert ours.tasks.size == task


def test_of_large_batches_a_worker_is_asked_for_one(monkeypatch, expected: list) -> None:
    for small, size in ((2 * 2 * SIDE * SIDE - 1, 1), (2 * 2 * SIDE * SIDE, 3)):
        monkeypatch.setattr(loader_module, "SMALL", small)
        ours = loader(1)
        assert indices(list(ours)) == expected[:STEPS]
        assert ours.tasks.size == size


def test_workers_do_not_begin_anew_with_an_epoch(monkeypatch) -> None:
    resets: list[object] = []
    reset = _MultiProcessingDataLoaderIter._reset
    monkeypatch.setattr(
        _MultiProcessingDataLoaderIter,
        "_reset",
        lambda self, *args, **more: (resets.append(self), reset(self, *args, **more))[1],
    )
    ours = loader(2)
    for _ in range(3):
        list(ours)
    assert len(resets) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_iteration_given_up_is_gone_on_with(workers: int, expected: list) -> None:
    """Meanwhile workers get as far ahead as they may."""
    ours, seen = loader(workers), []
    for stop in (2, 4, 1):
        for count, batch in enumerate(ours, start=1):
            seen.append(batch)
            if count == stop:
                time.sleep(0.1)
                break
    assert ours.state_dict() == {"handed_out": 7}
    seen += list(ours)
    assert indices(seen) == expected[: 7 + STEPS]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_is_gone_back_to(workers: int, expected: list) -> None:
    """Also by a loader whose workers are far ahead of it."""
    ours = loader(workers)
    for _ in range(2):
        list(ours)
    ours.load_state_dict({"handed_out": 3})
    assert indices(list(ours)) == expected[3 : 3 + STEPS]
    assert indices(list(ours)) == expected[3 + STEPS : 3 + 2 * STEPS]


@pytest.mark.parametrize("workers", [0, 2])
def test_after_a_broken_image_the_batches_before_it_were_handed_out(
    tmp_path: Path, workers: int, expected: list
) -> None:
    files = [tmp_path / f"{n}.png" for n in range(CLASSES * EACH)]
    for n, file in enumerate(files):
        Image.fromarray(np.full((SIDE, SIDE), n, np.uint8)).save(file)
    # The first image that only the fifth batch has, which is the second of a task.
    broken = next(n for n in expected[4] if not any(n in batch for batch in expected[:4]))
    whole = files[broken].read_bytes()
    files[broken].write_bytes(whole[:40])
    samples = Samples(files, np.arange(len(files)) // EACH, [file.name for file in files])
    ours, seen, others = over(samples, workers, task=3), [], set(active_children())
    with pytest.raises(UserError, match=rf"{broken}\.png cannot be read") as held:
        seen.extend(ours)
    assert set(active_children()) <= others
    assert held.value.__traceback__ is not None
    assert indices(seen) == expected[:4]
    files[broken].write_bytes(whole)
    assert indices(list(ours)) == expected[4 : 4 + STEPS]
    ours.under_way = ours._iterator = None  # ends the workers; the garbage collector needs 5 s for each
