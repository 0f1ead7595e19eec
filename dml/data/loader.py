"""Which images make up the batches of training and evaluation, and a training loader that resumes exactly."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from dml.data.sampler import PKBatchSampler
from dml.errors import UserError


class SampleKey(NamedTuple):
    """One image of a training batch: its position in the dataset, and the seed of its augmentation."""

    image: int
    seed: int


class SeededBatches(Sampler[list[SampleKey]]):
    """An infinite stream of P×K batches, of which each `iter()` yields one epoch, with a seed to augment each image.

    The seed follows from (seed, epoch, step, place in the global batch): an image that is drawn twice looks
    different each time, and a batch is the same whatever the number of processes and workers.

    Attributes:
        start: batches, counted from the first epoch, that the next iteration skips.
    """

    def __init__(self, sampler: PKBatchSampler) -> None:
        self.pk, self.start = sampler, 0

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.pk)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return islice(self._from(*divmod(self.start, len(self))), len(self))

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


class TrainLoader(DataLoader[Any]):
    """A DataLoader that continues after the last batch it handed out, whatever its workers have prefetched.

    Lightning saves and restores `state_dict` with the loop's progress, so a resumed run sees the batches that an
    unbroken run would have seen. `set_epoch` is not needed: Lightning calls it late when it resumes, and counts an
    epoch that `max_steps` cut short as a whole one.

    Args:
        dataset: the training images; takes a `SampleKey`.
        sampler: chooses the batches.
        options: of `DataLoader`.
    """

    def __init__(self, dataset: Dataset[Any], sampler: PKBatchSampler, **options: Any) -> None:
        self.batches, self.handed_out = SeededBatches(sampler), 0
        super().__init__(dataset, batch_sampler=self.batches, **options)

    # A generator, so that workers start at the first batch: Lightning asks for more iterators than it uses.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.batches.start = self.handed_out
        try:
            for batch in super().__iter__():
                self.handed_out += 1
                yield batch
        except UserError as error:
            # Without references to torch's iterator its workers end now; the garbage collector takes 5 s for each.
            self._iterator = None
            raise error.with_traceback(None) from None

    def state_dict(self) -> dict[str, int]:
        """Number of batches handed out so far."""
        return {"handed_out": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches that had been handed out when the state was saved."""
        self.handed_out = state["handed_out"]


def whole_batches(size: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """A process's part of an evaluation set's batches, one in `world_size`.

    The batches are the same for every number of processes, since a network's output for an image can depend
    on the size of its batch in the last bit. A process for which none is left repeats one: Lightning leaves a
    process without batches out of the evaluation, and the others would wait for it. Collectors drop repeats.
    """
    batches = [list(range(start, min(start + batch_size, size))) for start in range(0, size, batch_size)]
    return batches[rank::world_size] or [batches[rank % len(batches)]]
