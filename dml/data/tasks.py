"""What a loader asks a worker for: several batches at once, since asking takes as long as cropping ten small images."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import Dataset

from dml.data.dataset import ImageDataset, SampleKey
from dml.data.slots import Slots
from dml.errors import UserError

Keys = Sequence[int | SampleKey]


@runtime_checkable
class Batches(Protocol):
    """Lists of keys; the length tells how many, or how many an epoch has."""

    def __iter__(self) -> Iterator[Keys]: ...

    def __len__(self) -> int: ...


class Tasks:
    """The keys of batches, so many batches at a time.

    Args:
        batches: lists of keys.
        size: batches of a task; the last may have fewer.
    """

    def __init__(self, batches: Batches, size: int = 1) -> None:
        self.batches, self.size = batches, size

    def __iter__(self) -> Iterator[list[Keys]]:
        batches = iter(self.batches)
        while task := list(islice(batches, self.size)):
            yield task


class Reporting(Dataset[Any]):
    """To a loader, tasks' batches that are just begun, or the UserError that the dataset inside raises.

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

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        return self.inner[key]

    def __getitems__(self, task: Sequence[Keys]) -> list[dict[str, Any] | UserError]:
        """The batches, with their images or their place in the slots; in place of one, the first error among them."""
        return [self._begun(keys) for keys in task]

    def _begun(self, keys: Keys) -> dict[str, Any] | UserError:
        try:
            if self.slots is None:
                return self.inner.begun(keys)
            batch = self.inner.begun(keys, self.slots.empty)
            return {**batch, "image": self.slots.place(batch["image"])}
        except UserError as error:
            return error


def as_it_is(batches: Any) -> Any:
    """What `Reporting` has made: batches already."""
    return batches
