"""Batches that say with which seed each image is to be augmented."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from dml.data.dataset import SampleKey
from dml.data.sampler import PKBatchSampler


class SeededBatches(Sampler[list[SampleKey]]):
    """The batches of a P×K sampler, epoch after epoch without end, each image with the seed of its augmentation.

    The seed follows from (seed, epoch, step, place in the global batch): an image that is drawn twice looks
    different each time, and a batch is the same whatever the number of processes and workers.

    Attributes:
        start: batches, counted from the first epoch, that the next iteration passes over.
    """

    def __init__(self, sampler: PKBatchSampler) -> None:
        self.pk, self.start = sampler, 0

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.pk)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self._from(*divmod(self.start, len(self.pk)))

    def _from(self, epoch: int, step: int) -> Iterator[list[SampleKey]]:
        pk = self.pk
        while True:
            pk.set_epoch(epoch)
            pk.skip(step)
            for at, batch in enumerate(pk, start=step):
                source = np.random.SeedSequence([pk.seed, epoch, at, *pk.stream])
                seeds = source.generate_state(pk.batch_size)[pk.share]
                yield [SampleKey(image, int(seed)) for image, seed in zip(batch, seeds, strict=True)]
            epoch, step = epoch + 1, 0
