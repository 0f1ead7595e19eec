"""Augmentation in two halves: what reads an image draws its numbers, and the device does the arithmetic."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Halved(Protocol):
    """An augmentation that can also be done in two halves, with the same random numbers."""

    def begin(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """From an image (C, H, W), where it was read: the part (C, h, w) that is needed, and (n,) numbers."""

    def gather(self, parts: list[Tensor]) -> Tensor:
        """The parts of a batch as one tensor (B, C, h, w)."""

    def finish(self, parts: Tensor, numbers: Tensor) -> Tensor:
        """From these and (B, n) numbers, on any device: the augmented batch, float in [0, 1]."""
