"""Decoded images of various sizes, side by side in memory that worker processes share."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from torch import Tensor


class Pixels:
    """Images (H, W, C), uint8, laid end to end. Whoever unpickles it gets the same memory, not a copy.

    Args:
        where: a file, which is mapped; or a flat tensor in shared memory.
        shapes: height, width and channels of every image.
    """

    def __init__(self, where: Path | Tensor, shapes: Int64[np.ndarray, "N 3"]) -> None:
        self.where, self.shapes = where, shapes
        self.starts = np.concatenate([[0], shapes.prod(axis=1).cumsum()])
        if isinstance(where, Path):
            # Copy on write: torch warns of memory that cannot be written.
            self.flat: UInt8[np.ndarray, "n"] = np.memmap(where, np.uint8, "c").view(np.ndarray)
        else:
            self.flat = where.numpy()

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W C"]:
        return self.flat[self.starts[index] : self.starts[index + 1]].reshape(self.shapes[index])

    def __reduce__(self) -> tuple[type["Pixels"], tuple[Path | Tensor, np.ndarray]]:
        return Pixels, (self.where, self.shapes)
