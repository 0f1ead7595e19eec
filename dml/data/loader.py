"""A training loader that resumes exactly, and each process's batches of an evaluation set."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, Dataset

from dml.data.sampler import PKBatchSampler
from dml.errors import UserError


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Inside, the main thread is interrupted after so many seconds by torch's own error; 0 never does."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*args: Any) -> None:
        raise RuntimeError(f"DataLoader timed out after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TimedLoader(DataLoader[Any]):
    """A DataLoader that waits a limited time for a batch.

    Torch's own `timeout` does not see a worker that is stopped after it announced a batch: the process then waits for
    the batch's memory, without a limit. With 0 `seconds` it waits for ever.
    """

    def __init__(self, dataset: Dataset[Any], seconds: float = 0, **options: Any) -> None:
        self.seconds = seconds
        if options.get("num_workers") and multiprocessing.get_start_method() == "loky":
            # So joblib's processes start theirs, and torch's workers cannot start: the platform's own way, then.
            options["multiprocessing_context"] = multiprocessing.get_all_start_methods()[0]
        super().__init__(dataset, **options)

    # A generator, so that workers start at the first batch: Lightning asks for more iterators than it uses.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with deadline(self.seconds):
            batches = super().__iter__()
        while True:
            with deadline(self.seconds):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


class TrainLoader(TimedLoader):
    """A DataLoader that continues after the last batch it handed out, whatever its workers have prefetched.

    Lightning saves and restores `state_dict` with the loop's progress, so a resumed run sees the batches that an
    unbroken run would have seen. There is no `set_epoch`: Lightning calls it late when it resumes, and counts an
    epoch that `max_steps` cut short as a whole one.
    """

    def __init__(self, dataset: Dataset[Any], sampler: PKBatchSampler, **options: Any) -> None:
        self.batches, self.handed_out = sampler, 0
        super().__init__(dataset, batch_sampler=sampler, **options)

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
    batches = list(BatchSampler(range(size), batch_size, drop_last=False))
    return batches[rank::world_size] or [batches[rank % len(batches)]]
