"""Memory that workers fill again and again."""

import time
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dml.data import slots as slots_module
from dml.data.dataset import ImageDataset
from dml.data.loader import AHEAD, ImageLoader
from dml.data.slots import Place, Slots
from dml.data.split import Samples
from dml.errors import UserError

COUNT, B = 48, 4


def samples(height: int = 6, width: int = 5) -> Samples:
    """Images of one grey level each, which is their number."""
    images = np.broadcast_to(np.arange(COUNT)[:, None, None], (COUNT, height, width)).astype(np.uint8)
    return Samples(images, np.zeros(COUNT, np.int64), [str(n) for n in range(COUNT)])


def loader(workers: int, transform: Any = None, **options: Any) -> ImageLoader:
    batches = [range(start, start + B) for start in range(0, COUNT, B)]
    dataset = ImageDataset(samples(), transform, channels=1)
    return ImageLoader(dataset, batches, B, workers, **options)


def grey_levels(batches: list[dict[str, Tensor]]) -> list[int]:
    """Of all pixels, which must agree with the image's index."""
    for batch in batches:
        level = batch["image"] if batch["image"].dtype == torch.uint8 else (batch["image"] * 255).round()
        assert (level == batch["index"][:, None, None, None]).all()
    return torch.cat([batch["index"] for batch in batches]).tolist()


@pytest.mark.parametrize("finish", [True, False])
def test_batches_that_are_kept_are_not_written_again(finish: bool) -> None:
    for _ in range(2):
        assert grey_levels(list(loader(2, finish=finish))) == list(range(COUNT))


def test_floats_from_a_worker_are_not_written_again() -> None:
    assert grey_levels(list(loader(1, lambda image: image / 255))) == list(range(COUNT))


def test_a_slot_is_not_written_while_its_batch_is_being_copied(monkeypatch) -> None:
    """Workers have all the time to get as far ahead as they may."""
    opened = Slots.images

    def slowly(self: Slots, place: Place) -> Tensor:
        time.sleep(0.05)
        return opened(self, place)

    monkeypatch.setattr(Slots, "images", slowly)
    assert grey_levels(list(loader(2))) == list(range(COUNT))


def test_an_iteration_given_up_spoils_none_of_the_next() -> None:
    begun = loader(2)
    for count in (1, 3, 2):
        for taken, _ in enumerate(begun, start=1):
            if taken == count:
                break
        assert grey_levels(list(begun)) == list(range(COUNT))


def test_an_error_ends_the_workers_and_new_ones_get_new_slots(tmp_path: Path) -> None:
    """Even while somebody holds the error."""
    files = [tmp_path / f"{n}.png" for n in range(8)]
    for n, file in enumerate(files):
        Image.fromarray(np.full((4, 4), n, np.uint8)).save(file)
    whole = files[5].read_bytes()
    files[5].write_bytes(whole[:40])
    dataset = ImageDataset(Samples(files, np.zeros(8, np.int64), [file.name for file in files]), channels=1)
    ours = ImageLoader(dataset, [range(0, 4), range(4, 8)], 4, workers=2)
    others = set(active_children())
    with pytest.raises(UserError, match=r"5\.png cannot be read") as held:
        list(ours)
    assert set(active_children()) <= others
    files[5].write_bytes(whole)
    assert ours.source.slots is None
    assert grey_levels(list(ours)) == list(range(8))
    assert held.value.__traceback__ is not None
    ours._iterator = None  # ends the workers; the garbage collector, who would be next, needs 5 s for each


def test_batches_travel_as_their_place(monkeypatch) -> None:
    """Else the tests above would say nothing of slots."""
    seen, own = [], ImageLoader._own

    def watched(self: ImageLoader, batch: dict[str, Any]) -> dict[str, Any]:
        seen.append(type(batch["image"]))
        return own(self, batch)

    monkeypatch.setattr(ImageLoader, "_own", watched)
    list(loader(1))
    assert set(seen) == {Place}


def test_every_tensor_of_a_batch_is_pinned(monkeypatch) -> None:
    """There may be no GPU, and without one nothing can be."""
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(self) or self.clone())
    for workers in (0, 1):
        batches = list(loader(workers, finish=False, pin_memory=True))
        assert grey_levels(batches) == list(range(COUNT))
    assert len(pinned) == 2 * 3 * COUNT // B


def as_worker(monkeypatch, number: int) -> None:
    monkeypatch.setattr(slots_module, "get_worker_info", lambda: SimpleNamespace(id=number))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_workers_fill_their_own_slots_in_turn(monkeypatch, dtype: torch.dtype) -> None:
    slots = Slots(workers=2, slots=2, size=2 * 3 * 4)
    found = {}
    for worker in (0, 1):
        as_worker(monkeypatch, worker)
        slots.turn = -1  # each process has its own
        for turn in range(2):
            images = slots.empty((2, 3), dtype).T
            images.fill_(10 * worker + turn)
            found[worker, turn] = slots.place(images)
    for (worker, turn), place in found.items():
        assert isinstance(place, Place)
        images = slots.images(place)
        assert (images.shape, images.dtype) == ((3, 2), dtype)
        assert (images == 10 * worker + turn).all()
    assert slots.place(slots.empty((2, 3), dtype).T) == found[1, 0]


def test_what_does_not_fit_travels_by_itself(monkeypatch) -> None:
    slots = Slots(workers=1, slots=1, size=7)
    as_worker(monkeypatch, 0)
    images = slots.empty((3, 3), torch.uint8)
    assert slots.place(images) is images
    assert isinstance(slots.place(slots.empty((7,), torch.uint8)), Place)


def test_the_main_process_takes_no_slot() -> None:
    slots = Slots(workers=1, slots=1, size=8)
    images = slots.empty((8,), torch.uint8)
    assert slots.place(images) is images


def test_too_little_shared_memory_is_one_sentence(monkeypatch) -> None:
    monkeypatch.setattr(slots_module, "free_memory", lambda: 2_000)
    Slots(workers=2, slots=2, size=400)
    with pytest.raises(
        UserError, match=r"^data.num_workers=2: their batches need .* of shared memory .*shm-size"
    ):
        Slots(workers=2, slots=3, size=400)


def test_workers_have_slots_for_the_tasks_they_may_be_ahead_and_one_more() -> None:
    ours = loader(2)
    list(ours)
    assert ours.source.slots is not None
    assert ours.source.slots.memory.shape == (2, AHEAD + 1, B * 6 * 5 // 8 * 8)
    assert ours.prefetch_factor == AHEAD
    ours.at_once = 3
    ours.source.slots = ours._iterator = None
    assert grey_levels(list(ours)) == list(range(COUNT))
    assert ours.tasks.size == 3
    assert ours.source.slots.memory.shape[:2] == (2, (AHEAD + 1) * 3)
