"""Memory that worker processes share with the main process, for the images of their batches.

Torch hands tensors over in shared memory that is new for every batch. To get that memory page by page takes longer
than to crop the images of a cache, so here batches are written into the same memory again and again.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from dml.data.room import free_memory, readable
from dml.errors import UserError


class Place(NamedTuple):
    """Where in the memory a batch's images lie, as `torch.as_strided` counts."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype


class Slots:
    """Slots for the batches of every worker, which it fills in turn.

    What a slot held must have been copied by the time it comes round again. A DataLoader asks each worker for
    `prefetch_factor` tasks beyond the one it hands out, so the slots of one task more than that are enough.

    Args:
        workers: number of processes.
        slots: of each.
        size: bytes of a slot.

    Raises:
        UserError: so much memory is not free.
    """

    def __init__(self, workers: int, slots: int, size: int) -> None:
        size = -(-size // 8) * 8  # a multiple of every element's size
        need, free = workers * slots * size, free_memory()
        # Else a process that uses the last of it ends without a word.
        if need > free:
            raise UserError(
                f"data.num_workers={workers}: their batches need {readable(need)} of shared memory and "
                f"{readable(free)} are free: use fewer workers or smaller batches, or give a container more of it "
                "(docker run --shm-size)."
            )
        self.memory = torch.empty(workers, slots, size, dtype=torch.uint8).share_memory_()
        self.turn = -1  # of this process; each worker counts its own

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """As torch.empty, in the next slot of the worker that asks; anywhere, if it does not fit."""
        worker, size = get_worker_info(), math.prod(shape) * dtype.itemsize
        if worker is None or size > self.memory.shape[2]:
            return torch.empty(shape, dtype=dtype)
        self.turn = (self.turn + 1) % self.memory.shape[1]
        return self.memory[worker.id, self.turn, :size].view(dtype).view(*shape)

    def place(self, images: Tensor) -> Place | Tensor:
        """Where the images lie; themselves, if they are not in this memory."""
        if images.untyped_storage().data_ptr() != self.memory.untyped_storage().data_ptr():
            return images
        return Place(tuple(images.shape), images.stride(), int(images.storage_offset()), images.dtype)

    def images(self, place: Place) -> Tensor:
        """The images, until the slot is filled again."""
        return self.memory.view(-1).view(place.dtype).as_strided(place.shape, place.stride, place.offset)
