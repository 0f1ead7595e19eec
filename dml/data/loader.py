"""Loaders that name a broken image, and draw the same batches resumed or not, on any number of workers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dml.data.batch import finished
from dml.data.images import Draw, ImageDataset
from dml.data.sampler import PKBatchSampler
from dml.data.seeds import SeededBatches
from dml.data.slots import Place, Slots
from dml.errors import UserError

AHEAD = 2  # batches that each worker prepares beyond the one handed out


class Reporting(Dataset[Any]):
    """To a loader, batches that are just begun, or the UserError that the dataset inside raises.

    What a worker process raises reaches the main process wrapped in the worker's traceback. So workers hand an error
    over as they do a batch.

    Attributes:
        slots: where workers put the images, if set.
    """

    def __init__(self, inner: ImageDataset) -> None:
        self.inner = inner
        self.slots: Slots | None = None

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, key: int | Draw) -> dict[str, Any]:
        return self.inner[key]

    def __getitems__(self, keys: Sequence[int | Draw]) -> dict[str, Any] | UserError:
        """The batch of these, with its images or their place in the slots; or the first error among them."""
        try:
            if self.slots is None:
                return self.inner.begun(keys)
            batch = self.inner.begun(keys, self.slots.empty)
            return {**batch, "image": self.slots.place(batch["image"])}
        except UserError as error:
            return error


def as_it_is(batch: Any) -> Any:
    """The batch; `Reporting` has made one already."""
    return batch


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

    def __init__(
        self,
        dataset: ImageDataset,
        batches: Iterable[Sequence[int | Draw]],
        largest: int,
        workers: int = 0,
        pin_memory: bool = False,
        finish: bool = True,
    ) -> None:
        self.source = Reporting(dataset)
        super().__init__(
            self.source,
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=AHEAD if workers else None,
            # Its own: the seed that torch draws for workers nobody uses, and must not disturb dropout.
            generator=torch.Generator(),
        )
        self.largest, self.pinned, self.finish = largest, pin_memory, finish

    # A generator: workers start at the first batch. Lightning asks for more iterators than it uses.
    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        images = self.source.inner
        if self.num_workers and not images.halved and self.source.slots is None:
            # The images of a batch are of one size, and one tells it. Halved ones differ: torch hands those over.
            size = self.largest * images.begun([0])["image"].nbytes
            self.source.slots = Slots(self.num_workers, AHEAD + 1, size)
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                # Ends the workers now: left to the garbage collector, each may take 5 s. Who holds the error may keep
                # them alive, so new ones get new slots.
                self._iterator = self.source.slots = None
                raise batch
            yield self._own(batch)

    def _own(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch in tensors, in memory of its own."""
        image, slots = batch["image"], self.source.slots
        placed = isinstance(image, Place)
        if placed:
            assert slots is not None
            image = slots.images(image)
        batch = {name: torch.as_tensor(values) for name, values in {**batch, "image": image}.items()}
        if self.finish:
            return finished(batch, self.source.inner.last)
        if self.pinned:
            return {name: tensor.pin_memory() for name, tensor in batch.items()}
        return {**batch, "image": image.clone()} if placed else batch


class TrainLoader(ImageLoader):
    """Augmented P×K batches as one endless sequence, of which every iteration hands out an epoch's worth.

    So a resumed run sees exactly what an unbroken one would have seen, wherever it was stopped: Lightning
    saves and restores `state_dict` with the loop's progress. Nobody needs to call `set_epoch`; Lightning
    calls it late when it resumes, and counts an epoch that `max_steps` cut short as a whole one.

    Args:
        dataset: the training images.
        sampler: chooses the batches.
        options: of `ImageLoader`: workers, pin_memory, finish.
    """

    def __init__(self, dataset: ImageDataset, sampler: PKBatchSampler, **options: Any) -> None:
        batches, share = SeededBatches(sampler), sampler.share
        super().__init__(dataset, batches, share.stop - share.start, **options)
        self.batches, self.handed_out = batches, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        self.batches.start = self.handed_out
        for batch in super().__iter__():
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches handed out so far, whatever workers have prefetched."""
        return {"handed_out": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that had been handed out when the state was saved."""
        self.handed_out = state["handed_out"]
