"""A training loader that draws the same images, resumed or not, on however many workers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from dml.data.images import Draw, ImageDataset
from dml.data.sampler import PKBatchSampler
from dml.errors import UserError


class SeededBatches(Sampler[list[Draw]]):
    """The batches of a P×K sampler, each image with the seed of its augmentation.

    The seed follows from (seed, epoch, step, place in the global batch): an image that is drawn twice looks
    different each time, and a batch is the same whatever the number of processes and workers.
    """

    def __init__(self, sampler: PKBatchSampler) -> None:
        # Under this name Lightning finds the sampler whose `set_epoch` it calls.
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Draw]]:
        sampler, epoch = self.sampler, self.sampler.epoch
        for step, batch in enumerate(sampler, start=sampler.first_step):
            seeds = np.random.SeedSequence([sampler.seed, epoch, step]).generate_state(sampler.batch_size)
            yield [Draw(index, int(seed)) for index, seed in zip(batch, seeds[sampler.share], strict=True)]


class ImageLoader(DataLoader[dict[str, Any]]):
    """A DataLoader that reports a broken image in one sentence, also where a worker process found it.

    Torch wraps what a worker raises into the worker's traceback; the sentence is its last line.
    """

    # A generator: workers start, and the sampler's epoch is read, at the first batch and not before.
    # Lightning asks for the iterator of a resumed run's first epoch before it sets that epoch.
    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except UserError as error:
            sentence = str(error).strip().splitlines()[-1]
            name = f"{UserError.__module__}.{UserError.__qualname__}: "
            raise UserError(sentence.removeprefix(name)) from error


class TrainLoader(ImageLoader):
    """Augmented P×K batches that go on in mid-epoch where a checkpoint left them.

    Lightning saves and restores a loader's `state_dict` with the loop's own progress.

    Args:
        dataset: the training images.
        sampler: chooses the batches.
        options: further arguments of `DataLoader`.
    """

    def __init__(self, dataset: ImageDataset, sampler: PKBatchSampler, options: dict[str, Any]) -> None:
        super().__init__(dataset, batch_sampler=SeededBatches(sampler), **options)
        self.pk_sampler = sampler
        self.step = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        self.step = self.pk_sampler.first_step
        for batch in super().__iter__():
            self.step += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How far the epoch has been handed out, whatever workers have prefetched."""
        return {"epoch": self.pk_sampler.epoch, "step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration, if it is of the epoch saved, begin at the step saved."""
        self.pk_sampler.set_epoch(state["epoch"])
        self.pk_sampler.skip(state["step"])
