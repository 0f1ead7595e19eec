"""Batches of images: as bytes where they are loaded, as numbers in [0, 1] where the network is."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dml.errors import UserError

PIECE = 8  # images
Empty = Callable[..., Tensor]  # (shape, dtype=…), as torch.empty


def channels_last(shape: Sequence[int], dtype: torch.dtype, empty: Empty) -> Tensor:
    """Room for images (B, C, H, W), channels last in memory, where `empty` finds it."""
    count, channels, height, width = shape
    return empty((count, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)


def stacked(images: Iterable[Tensor], count: int, empty: Empty = torch.empty) -> Tensor:
    """So many images (C, H, W) as one tensor (B, C, H, W), channels last in memory.

    Each is copied to its place before the next is asked for, while it is in the core's cache.

    Args:
        images: of one size.
        count: their number, B ≥ 1.
        empty: makes the tensor.

    Raises:
        UserError: they differ in size.
    """
    images = iter(images)
    first = next(images)
    batch = channels_last((count, *first.shape), first.dtype, empty)
    for place, image in zip(batch, chain([first], images), strict=True):
        if image.shape != first.shape:
            smaller, larger = sorted(tuple(each.shape[-2:]) for each in (first, image))
            raise UserError(
                f"The images of a batch must be of one size, but there are {smaller[1]}×{smaller[0]} and "
                f"{larger[1]}×{larger[0]} pixels: end dataset.train_transform and eval_transform with a crop."
            )
        place.copy_(image)
    return batch


def finished(batch: dict[str, Any], last: Any = None, empty: Empty | None = None) -> dict[str, Any]:
    """A batch as `ImageDataset.begun` leaves it, on any device, with the image as float32 in [0, 1].

    The image lies in memory of its own, channels last.

    Args:
        batch: with `image` and, if it is halved, `numbers`.
        last: the transform that halved batches are left to.
        empty: makes the tensor of images that are not halved; None is torch.empty on their device.
    """
    rest = {name: batch[name] for name in batch.keys() - {"image", "numbers"}}
    image, numbers = batch["image"], batch.get("numbers")
    if numbers is None:
        image = _floats(image, empty or partial(torch.empty, device=image.device))
    else:
        image = last.finish(image, torch.as_tensor(numbers))
    return {**rest, "image": image.contiguous(memory_format=torch.channels_last)}


def _floats(images: Tensor, empty: Empty) -> Float[Tensor, "B C H W"]:
    """New floats in [0, 1] from bytes or floats; those of torchvision's to_dtype, to the last bit."""
    floats = channels_last(images.shape, torch.float32, empty)
    if images.is_floating_point():
        return floats.copy_(images)
    # On the CPU in pieces that a core's cache holds, for they are passed over twice.
    size = PIECE if images.device.type == "cpu" else len(images)
    for piece, source in zip(floats.split(size), images.split(size), strict=True):
        piece.copy_(source).mul_(1 / 255)
    return floats
