"""Loaders that name a broken image, and draw the same batches resumed or not, on any number of workers."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from dml.data.batch import channels_last, finished
from dml.data.dataset import ImageDataset
from dml.data.reused import Reused
from dml.data.sampler import PKBatchSampler
from dml.data.seeds import SeededBatches
from dml.data.slots import Place, Slots
from dml.data.tasks import Batches, Reporting, Tasks, as_it_is
from dml.errors import UserError

AHEAD = 2  # tasks that each worker is asked for beyond the one handed out
SMALL = 4 * 2**20  # bytes of a batch, at most, of which a worker is asked for several at once


class ImageLoader(DataLoader[dict[str, Any]]):
    """A DataLoader of batches that raises a broken image's own UserError, also where a worker came upon it.

    Args:
        dataset: the images.
        batches: lists of keys, at most `largest` in each.
        largest: images in the largest batch.
        workers: processes that load the images, and live as long as the loader; 0 loads them in this one.
        pin_memory: hand batches out in page-locked memory.
        finish: hand out batches with float images in [0, 1]; False leaves `finished` to whoever gets them.
    """

    at_once = 1  # batches that a worker is asked for at once, if they are small

    def __init__(
        self,
        dataset: ImageDataset,
        batches: Batches,
        largest: int,
        workers: int = 0,
        pin_memory: bool = False,
        finish: bool = True,
    ) -> None:
        self.source, self.tasks, self.memory = Reporting(dataset), Tasks(batches), Reused()
        super().__init__(
            self.source,
            batch_sampler=self.tasks,
            collate_fn=as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=AHEAD if workers else None,
            # Its own: the seed that torch draws for workers nobody uses, and must not disturb dropout.
            generator=torch.Generator(),
        )
        self.largest, self.pinned, self.finish = largest, pin_memory, finish

    def __len__(self) -> int:
        """Batches of an iteration."""
        return len(self.tasks.batches)

    # A generator: workers start at the first batch. Lightning asks for more iterators than it uses.
    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        for batch in self._begun():
            yield self._own(batch)

    def _begun(self) -> Iterator[dict[str, Any] | UserError]:
        """The batches as `Reporting` makes them, in the workers if there are any."""
        images = self.source.inner
        if self.num_workers and not images.halved and self.source.slots is None:
            # The images of a batch are of one size, and one tells it. Halved ones differ: torch hands those over.
            size = self.largest * images.begun([0])["image"].nbytes
            self.tasks.size = self.at_once if size <= SMALL else 1
            self.source.slots = Slots(self.num_workers, (AHEAD + 1) * self.tasks.size, size)
        return chain.from_iterable(super().__iter__())

    def _own(self, batch: dict[str, Any] | UserError) -> dict[str, Any]:
        """The batch in tensors, in memory of its own; or raises the error."""
        if isinstance(batch, UserError):
            # Ends the workers as soon as the caller's loop ends: left to the garbage collector, each may take 5 s. New
            # ones get new slots: an old one may still be writing.
            self._iterator = self.source.slots = None
            raise batch
        image, slots = batch["image"], self.source.slots
        placed = isinstance(image, Place)
        if placed:
            assert slots is not None
            image = slots.images(image)
        batch = {name: torch.as_tensor(values) for name, values in {**batch, "image": image}.items()}
        if self.finish:
            return finished(batch, self.source.inner.last, self.memory.empty)
        if self.pinned:
            return {name: tensor.pin_memory() for name, tensor in batch.items()}
        if placed:
            batch["image"] = channels_last(image.shape, image.dtype, self.memory.empty).copy_(image)
        return batch


class TrainLoader(ImageLoader):
    """Augmented P×K batches as one endless sequence, of which every iteration hands out an epoch's worth.

    So a resumed run sees exactly what an unbroken one would have seen, wherever it was stopped: Lightning
    saves and restores `state_dict` with the loop's progress. Nobody needs to call `set_epoch`; Lightning
    calls it late when it resumes, and counts an epoch that `max_steps` cut short as a whole one.
    Workers go on with the next epoch's batches when one ends.

    Args:
        dataset: the training images.
        sampler: chooses the batches.
        options: of `ImageLoader`: workers, pin_memory, finish.
    """

    at_once = 2

    def __init__(self, dataset: ImageDataset, sampler: PKBatchSampler, **options: Any) -> None:
        batches, share = SeededBatches(sampler), sampler.share
        super().__init__(dataset, batches, share.stop - share.start, **options)
        self.batches, self.handed_out = batches, 0
        self.under_way: Iterator[dict[str, Any] | UserError] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        if self.under_way is None:
            self.batches.start = self.handed_out
            self.under_way = self._begun()
        try:
            for begun in islice(self.under_way, len(self)):
                batch = self._own(begun)
                self.handed_out += 1
                yield batch
        except Exception:
            # What has raised yields nothing more.
            self.under_way = None
            raise

    def state_dict(self) -> dict[str, int]:
        """Batches handed out so far, whatever workers have prefetched."""
        return {"handed_out": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that had been handed out when the state was saved."""
        self.handed_out, self.under_way = state["handed_out"], None
