"""Loaders that name a broken image, and draw the same batches resumed or not, on any number of workers."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dml.data.images import Draw, ImageDataset, finished
from dml.data.sampler import PKBatchSampler
from dml.errors import UserError


class SeededBatches(Sampler[list[Draw]]):
    """The batches of a P×K sampler, epoch after epoch, each image with the seed of its augmentation.

    The seed follows from (seed, epoch, step, place in the global batch): an image that is drawn twice looks
    different each time, and a batch is the same whatever the number of processes and workers.

    Attributes:
        start: batches, counted from the first epoch, that the next iteration passes over.
    """

    def __init__(self, sampler: PKBatchSampler) -> None:
        self.pk, self.start = sampler, 0

    def __len__(self) -> int:
        return len(self.pk)

    def __iter__(self) -> Iterator[list[Draw]]:
        return islice(self._stream(*divmod(self.start, len(self.pk))), len(self.pk))

    def _stream(self, epoch: int, step: int) -> Iterator[list[Draw]]:
        pk = self.pk
        while True:
            pk.set_epoch(epoch)
            pk.skip(step)
            for at, batch in enumerate(pk, start=step):
                source = np.random.SeedSequence([pk.seed, epoch, at, *pk.stream])
                seeds = source.generate_state(pk.batch_size)[pk.share]
                yield [Draw(image, int(seed)) for image, seed in zip(batch, seeds, strict=True)]
            epoch, step = epoch + 1, 0


class Reporting(Dataset[Any]):
    """A dataset that returns a UserError where the one inside raises it; to a loader, items just begun."""

    def __init__(self, inner: ImageDataset) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, key: int | Draw) -> dict[str, Any]:
        return self.inner[key]

    def __getitems__(self, keys: Sequence[int | Draw]) -> dict[str, Any] | UserError:
        """The batch of these, or the first error among them.

        Only the image is a tensor: each takes shared memory of its own, which costs more than to send a few numbers.
        """
        try:
            items = self.inner.begun_together(keys)
            images = [item.pop("image") for item in items]
            rest = {name: np.stack([item[name] for item in items]) for name in items[0]}
            return {"image": self.inner.gathered(images), **rest}
        except UserError as error:
            return error


def as_it_is(batch: Any) -> Any:
    """The batch; `Reporting` has made one already."""
    return batch


class ImageLoader(DataLoader[dict[str, Any]]):
    """A DataLoader that raises a broken image's own UserError, also where a worker process came upon it.

    What a worker raises reaches the main process wrapped in the worker's traceback. So workers hand the error
    over as they do a batch.

    Args:
        dataset: the images.
        options: arguments of `DataLoader`.
        finish: hand out batches with float images in [0, 1]; False leaves `finished` to whoever gets them.
    """

    def __init__(self, dataset: ImageDataset, options: dict[str, Any], finish: bool = True) -> None:
        # A generator of its own: the seed that torch draws for workers nobody uses, and must not disturb dropout.
        generator = torch.Generator()
        super().__init__(Reporting(dataset), collate_fn=as_it_is, generator=generator, **options)
        self.last, self.finish = dataset.last, finish

    # A generator: workers start at the first batch. Lightning asks for more iterators than it uses.
    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                # Ends the workers now: left to the garbage collector, each may take 5 s.
                self._iterator = None
                raise batch
            batch = {name: torch.as_tensor(values) for name, values in batch.items()}
            yield finished(batch, self.last) if self.finish else batch


class TrainLoader(ImageLoader):
    """Augmented P×K batches as one endless sequence, of which every iteration hands out an epoch's worth.

    So a resumed run sees exactly what an unbroken one would have seen, wherever it was stopped: Lightning
    saves and restores `state_dict` with the loop's progress. Nobody needs to call `set_epoch`; Lightning
    calls it late when it resumes, and counts an epoch that `max_steps` cut short as a whole one.

    Args:
        dataset: the training images.
        sampler: chooses the batches.
        options: arguments of `DataLoader`.
        finish: as in `ImageLoader`.
    """

    def __init__(
        self, dataset: ImageDataset, sampler: PKBatchSampler, options: dict[str, Any], finish: bool = True
    ) -> None:
        batches = SeededBatches(sampler)
        super().__init__(dataset, {"batch_sampler": batches, **options}, finish)
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
