"""Batches of P classes with K images each."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from dml.errors import UserError


class Deck:
    """Deals items in shuffled order: every item once before any a second time, as cards from a deck.

    Where a hand straddles two shuffles, an item already in the hand waits for the next one: no item is twice
    in a hand unless the hand is larger than the deck, and then each is there equally often, give or take one.
    So are the items over all hands.

    Args:
        items: (n,) what is dealt, n ≥ 1.
        rng: source of the shuffles.
    """

    def __init__(self, items: np.ndarray, rng: np.random.Generator) -> None:
        self.items, self.rng = items, rng
        self.left = items[:0]

    def deal(self, count: int) -> np.ndarray:
        """The next `count` items."""
        hand, self.left = self.left[:count], self.left[count:]
        while len(hand) < count:
            fresh = self.rng.permutation(self.items)
            # Those least often in the hand first; a stable sort keeps the shuffled order among equals.
            times = (fresh[:, None] == hand).sum(axis=1)
            taken = np.argsort(times, kind="stable")[: count - len(hand)]
            hand, self.left = np.concatenate([hand, fresh[taken]]), np.delete(fresh, taken)
        return hand


class PKBatchSampler(Sampler[list[int]]):
    """Batches of P classes × K images, drawn from (seed, epoch) and from nothing else.

    - A batch holds P different classes. Over an epoch classes appear equally often, give or take one.
    - It holds K different images of each; a class with fewer than K images repeats its own, evenly. Within an
      epoch a class shows all its images before any of them again.
    - Images of a class lie side by side.
    - Every process draws the same global batch and yields its own contiguous share of it; shares differ in
      size by at most one image. Together they are exactly the batch that a single process would see.

    Works as the `batch_sampler` of any DataLoader; call `set_epoch` before each epoch. Lightning, which calls
    it only on a `.sampler`, finds this object there.

    Args:
        labels: (N,) class of each image, any integers.
        classes_per_batch: P ≥ 2, at most the number of classes.
        images_per_class: K ≥ 2, at most the size of the largest class.
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

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        classes_per_batch: int = 16,
        images_per_class: int = 5,
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
        _check(counts, classes_per_batch, images_per_class, steps_per_epoch)
        self.members = np.split(by_class, np.cumsum(counts)[:-1])
        self.classes_per_batch, self.images_per_class = classes_per_batch, images_per_class
        self.batch_size = classes_per_batch * images_per_class
        if not 0 <= rank < world_size <= self.batch_size:
            raise UserError(
                f"A batch of {self.batch_size} images cannot be shared to process {rank} of {world_size}: "
                "raise sampler.classes_per_batch or use fewer devices."
            )
        shares = np.array_split(np.arange(self.batch_size), world_size)
        share = shares[rank] if scope == "global" else np.arange(self.batch_size)
        self.share = slice(int(share[0]), int(share[-1]) + 1)
        images_a_step = self.batch_size * (world_size if scope == "local" else 1)
        self.steps_per_epoch = steps_per_epoch or max(1, len(labels) // images_a_step)
        self.stream = [rank] if scope == "local" else []
        self.seed, self.epoch, self.first_step = seed, 0, 0
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws; a change of epoch undoes `skip`."""
        if epoch != self.epoch:
            self.epoch, self.first_step = epoch, 0

    def skip(self, steps: int) -> None:
        """Let the next iteration, and only that, begin after the epoch's first `steps` batches."""
        self.first_step = steps

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        first, self.first_step = self.first_step, 0
        return self._batches(np.random.default_rng([self.seed, self.epoch, *self.stream]), first)

    def _batches(self, rng: np.random.Generator, first_step: int) -> Iterator[list[int]]:
        classes = Deck(np.arange(len(self.members)), rng)
        images = [Deck(members, rng) for members in self.members]
        for step in range(self.steps_per_epoch):
            chosen = classes.deal(self.classes_per_batch)
            batch = np.concatenate([images[c].deal(self.images_per_class) for c in chosen])
            if step >= first_step:
                yield batch[self.share].tolist()


def _check(counts: np.ndarray, P: int, K: int, steps: int | None) -> None:
    """Raise UserError unless batches of P classes × K images can be drawn from classes of these sizes."""
    if not 2 <= P <= len(counts):
        raise UserError(
            f"sampler.classes_per_batch={P} must be at least 2 and at most {len(counts)}, "
            "the number of training classes."
        )
    if not 2 <= K <= counts.max():
        raise UserError(
            f"sampler.images_per_class={K} must be at least 2 and at most {counts.max()}, "
            "the images of the largest training class."
        )
    if steps is not None and steps < 1:
        raise UserError(f"sampler.steps_per_epoch={steps} must be at least 1, or null for one draw an image.")
