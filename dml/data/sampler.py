"""Batches of P classes with K images each, and a seed to augment each image."""

from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from typing import Literal, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from dml.errors import UserError, note

USUAL_P, USUAL_K = 16, 5


class SampleKey(NamedTuple):
    """One image of a training batch: its position in the dataset, and the seed of its augmentation."""

    image: int
    seed: int


class ShuffledPasses:
    """Draws items in shuffled passes: each item once before any a second time.

    A draw that straddles two passes takes those items first that it does not have yet: no item is twice in a draw
    unless the draw is larger than the pass, and then each is in it equally often, give or take one. So are the items
    over all draws.

    Args:
        items: (n,) what to draw from, n ≥ 1.
        rng: source of the shuffles.
    """

    def __init__(self, items: np.ndarray, rng: np.random.Generator) -> None:
        self.items, self.rng = items, rng
        self.left = items[:0]

    def draw(self, size: int) -> np.ndarray:
        """The next `size` items."""
        drawn, self.left = self.left[:size], self.left[size:]
        while len(drawn) < size:
            fresh = self.rng.permutation(self.items)
            # Those least often in the draw first; a stable sort keeps the shuffled order among equals.
            times = (fresh[:, None] == drawn).sum(axis=1)
            taken = np.argsort(times, kind="stable")[: size - len(drawn)]
            drawn, self.left = np.concatenate([drawn, fresh[taken]]), np.delete(fresh, taken)
        return drawn


class PKBatchSampler(Sampler[list[SampleKey]]):
    """An infinite stream of P×K batches; each `iter()` yields one epoch.

    - A batch holds P different classes. Over an epoch classes appear equally often, give or take one.
    - It holds K different images of each; a class with fewer than K images repeats its own, evenly. Within an
      epoch a class shows all its images before any of them again.
    - Images of a class lie side by side.
    - Each image has a seed for its augmentation: one that is drawn twice looks different each time.
    - Batches and seeds follow from (seed, epoch, step) alone.
    - Every process draws the same global batch and yields its own contiguous share of it; shares differ in
      size by at most one image. Together they are exactly the batch that a single process would see.

    Args:
        labels: (N,) class of each image, any integers.
        classes_per_batch: P ≥ 2, at most the number of classes; "auto" is 16, or all of fewer classes, with a note.
        images_per_class: K ≥ 2, at most the size of the largest class; "auto" is 5, or that size, with a note.
        steps_per_epoch: batches an epoch; None gives N // (P·K), at least 1: about as many draws as images, though not
            each image once. Since classes appear equally often, small ones are repeated and large ones left out in
            part. An epoch left out 2% of the images of 100 classes of 58 or 59 (P = 16, K = 5), 9% of 50 classes of 1
            to 60, 22% of 11,318 classes of 2 to 10, and 60% of a long tail of 500 classes of 2 to 2,000.
        seed: ≥ 0.
        rank: this process, 0 ≤ rank < world_size.
        world_size: W, number of processes that share each batch, at most P·K.
        scope: "global" shares one batch to all processes. "local" gives each process a batch of P×K of its own,
            drawn from (seed, epoch, rank): W times the images a step, the field's usual, for comparison. With
            one process both are the same.

    Attributes:
        classes_per_batch, images_per_class: P and K, numbers.
        start: batches, counted from the first epoch, that the next iteration skips.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        classes_per_batch: int | Literal["auto"] = USUAL_P,
        images_per_class: int | Literal["auto"] = USUAL_K,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        scope: str = "global",
    ) -> None:
        if scope not in ("global", "local"):
            raise UserError(f"sampler.scope={scope} must be global or local.")
        labels = np.asarray(labels)
        by_class = np.argsort(labels, kind="stable")
        _, counts = np.unique(labels, return_counts=True)
        C, largest = len(counts), int(counts.max(initial=0))
        if min(C, largest) < 2:
            raise UserError(
                f"A batch needs two classes, and two images of one, but the training set has {C}, the largest of "
                f"{largest}: add images."
            )
        P = _fitted("classes_per_batch", classes_per_batch, USUAL_P, C, "there are no more training classes")
        K = _fitted(
            "images_per_class", images_per_class, USUAL_K, largest, "no training class has more images"
        )
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise UserError(
                f"sampler.steps_per_epoch={steps_per_epoch} must be at least 1, or null for one draw an image."
            )
        self.members = np.split(by_class, np.cumsum(counts)[:-1])
        self.classes_per_batch, self.images_per_class, self.batch_size = P, K, P * K
        if not 0 <= rank < world_size <= self.batch_size:
            raise UserError(
                f"A batch of {self.batch_size} images cannot be shared to process {rank} of {world_size}: "
                "raise sampler.classes_per_batch or use fewer devices."
            )
        whole = np.arange(self.batch_size)
        self.share = np.array_split(whole, world_size)[rank] if scope == "global" else whole
        images_a_step = self.batch_size * (world_size if scope == "local" else 1)
        self.steps_per_epoch = steps_per_epoch or max(1, len(labels) // images_a_step)
        self.stream = [rank] if scope == "local" else []
        self.seed, self.start = seed, 0

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, step = divmod(self.start, len(self))
        stream = chain.from_iterable(map(self._epoch, count(epoch)))
        return islice(stream, step, step + len(self))

    def _epoch(self, epoch: int) -> Iterator[list[SampleKey]]:
        rng = np.random.default_rng([self.seed, epoch, *self.stream])
        classes = ShuffledPasses(np.arange(len(self.members)), rng)
        images = [ShuffledPasses(members, rng) for members in self.members]
        for step in range(len(self)):
            chosen = classes.draw(self.classes_per_batch)
            batch = np.concatenate([images[c].draw(self.images_per_class) for c in chosen])
            sequence = np.random.SeedSequence([self.seed, epoch, step, *self.stream])
            seeds = sequence.generate_state(self.batch_size)
            yield list(map(SampleKey, batch[self.share].tolist(), seeds[self.share].tolist()))


def _fitted(key: str, value: int | Literal["auto"], usual: int, most: int, why: str) -> int:
    """P or K as given, from 2 to the most that there is; "auto" is the usual number, or with a note the most."""
    if value == "auto":
        if most < usual:
            note(f"sampler.{key}={most} in place of {usual}: {why}.")
        return min(usual, most)
    if not 2 <= value <= most:
        raise UserError(f"sampler.{key}={value} must be at least 2 and at most {most}: {why}.")
    return value
