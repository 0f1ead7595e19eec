"""Memory for batches that is used again: to get megabytes anew from the system can take longer than to fill them."""

import math
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

KEPT = 2  # while one batch is in use, the next is made


class Reused:
    """Makes tensors in memory that earlier ones had, as soon as nobody has those, nor any part of them, any more."""

    def __init__(self) -> None:
        self.free: list[np.ndarray] = []

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """As torch.empty."""
        size = math.prod(shape) * dtype.itemsize
        memory = self.free.pop() if self.free else None
        if memory is None or len(memory) < size:
            memory = np.empty(size, np.uint8)
        # The tensor's storage, which all parts of it share, holds this view, and ends it when it ends itself.
        view = memory[:size]
        weakref.finalize(view, self._take_back, memory).atexit = False
        return torch.from_numpy(view).view(dtype).view(*shape)

    def _take_back(self, memory: np.ndarray) -> None:
        if len(self.free) < KEPT:
            self.free.append(memory)
