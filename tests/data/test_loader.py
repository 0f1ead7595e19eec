"""The training batches: one endless stream, whoever prepares it and however it is interrupted."""

import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from dml.data.dataset import ImageDataset, collate
from dml.data.loader import TrainLoader
from dml.data.sampler import PKBatchSampler
from dml.data.split import Samples
from dml.errors import UserError

CLASSES, EACH, STEPS = 4, 6, 5
SIDE = 8


def loader(workers: int = 0) -> TrainLoader:
    """Of images that are their own number."""
    count = CLASSES * EACH
    images = np.broadcast_to(np.arange(count)[:, None, None], (count, SIDE, SIDE)).astype(np.uint8)
    return over(Samples(images, np.arange(count) // EACH, [str(n) for n in range(count)]), workers)


def over(samples: Samples, workers: int) -> TrainLoader:
    sampler = PKBatchSampler(samples.labels, 2, 2, steps_per_epoch=STEPS, seed=3)
    options = {"num_workers": workers, "persistent_workers": workers > 0, "collate_fn": collate}
    return TrainLoader(ImageDataset(samples, channels=1), sampler, **options)


def indices(batches: list[dict[str, Tensor]]) -> list[list[int]]:
    """The images' numbers, which are also their grey levels."""
    for batch in batches:
        assert (batch["image"] == batch["index"][:, None, None, None]).all()
    return [batch["index"].tolist() for batch in batches]


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    """Of three epochs."""
    ours = loader()
    return [index for _ in range(3) for index in indices(list(ours))]


@pytest.mark.parametrize("workers", [1, 2])
def test_epochs_follow_each_other_whatever_the_workers(workers: int, expected: list) -> None:
    ours = loader(workers)
    epochs = [list(ours) for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [STEPS] * 3 == [len(ours)] * 3
    assert [index for epoch in epochs for index in indices(epoch)] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_iteration_is_continued(workers: int, expected: list) -> None:
    """Meanwhile workers prefetch as much as they may."""
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
def test_a_loaded_state_is_continued(workers: int, expected: list) -> None:
    """Also by a loader whose workers are far ahead of it."""
    ours = loader(workers)
    for _ in range(2):
        list(ours)
    ours.load_state_dict({"handed_out": 3})
    assert indices(list(ours)) == expected[3 : 3 + STEPS]
    assert indices(list(ours)) == expected[3 + STEPS : 3 + 2 * STEPS]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_before_a_broken_image_are_handed_out(
    tmp_path: Path, workers: int, expected: list
) -> None:
    files = [tmp_path / f"{n}.png" for n in range(CLASSES * EACH)]
    for n, file in enumerate(files):
        Image.fromarray(np.full((SIDE, SIDE), n, np.uint8)).save(file)
    # The first image that only the fifth batch has.
    broken = next(n for n in expected[4] if not any(n in batch for batch in expected[:4]))
    whole = files[broken].read_bytes()
    files[broken].write_bytes(whole[:40])
    samples = Samples(files, np.arange(len(files)) // EACH, [file.name for file in files])
    ours, seen, others = over(samples, workers), [], set(active_children())
    with pytest.raises(UserError, match=rf"^{tmp_path}/{broken}\.png is empty or not an image") as held:
        seen.extend(ours)
    # The workers end at once, even while somebody holds the error.
    assert set(active_children()) <= others
    del held  # its traceback would leave the next workers to the garbage collector
    assert indices(seen) == expected[:4]
    files[broken].write_bytes(whole)
    assert indices(list(ours)) == expected[4 : 4 + STEPS]
