"""Labelled images, one at a time, and batches of them."""

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from dml.data.loader import SampleKey
from dml.data.pixels import Pixels
from dml.data.read_image import MODES, read_image
from dml.data.split import Samples
from dml.data.steps import changes_nothing, still_and_moving
from dml.errors import UserError

Transform = Callable[[Tensor], Tensor]


class ImageDataset(Dataset[dict[str, Any]]):
    """Labelled images as uint8 tensors.

    An item is `{"image": (C, H, W), "label": int, "index": int}`; index is the position in `samples`. Asked
    for a `SampleKey` instead of a position, the image is augmented from the key's seed alone, the same in any
    process, worker or resumed run. Transforms draw from torch's random numbers, which go on afterwards as if
    untouched.

    Args:
        samples: files, or uint8 images in memory.
        transform: from a uint8 tensor (C, H, W) to such a tensor or a float one in [0, 1]; None leaves it as
            it is. Mean and standard deviation are the model's.
        channels: 1 (grey) or 3 (RGB); grey images become RGB, and files the other way round too.

    Attributes:
        still: the transforms at the beginning that always do the same.
        moving: the others.

    Raises:
        UserError: `channels` is neither, or is 1 for colour images in memory; on access, a file that cannot be read.
    """

    def __init__(self, samples: Samples, transform: Transform | None = None, channels: int = 3) -> None:
        in_colour = isinstance(samples.images, np.ndarray) and samples.images.ndim == 4
        if channels not in MODES or (in_colour and channels == 1):
            raise UserError(f"dataset.channels={channels} does not fit: 3 is RGB, 1 is for grey images.")
        self.samples, self.channels = samples, channels
        self.images: Any = samples.images
        self.still, self.moving = still_and_moving(transform)

    def kept(self, images: Pixels) -> "ImageDataset":
        """The same, with images at hand that the first transforms have been through."""
        other = copy(self)
        other.images, other.still = images, []
        return other

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        index, seed = key if isinstance(key, SampleKey) else (key, None)
        image = self.pixels(index).permute(2, 0, 1)
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                # Not torch.manual_seed, which seeds the accelerators too.
                torch.default_generator.manual_seed(seed)
            for transform in self.moving:
                image = transform(image)
        return {"image": image, "label": int(self.samples.labels[index]), "index": int(index)}

    def pixels(self, index: int) -> UInt8[Tensor, "H W C"]:
        """An image after the transforms that always do the same: what a cache keeps."""
        source = self.images[index]
        array = read_image(source, self.channels) if isinstance(source, Path) else source
        image = torch.from_numpy(array)
        if not self.still and image.ndim == 3:
            return image.contiguous()
        image = image.expand(self.channels, -1, -1) if image.ndim == 2 else image.permute(2, 0, 1)
        for transform in self.still:
            image = image if changes_nothing(transform, image) else transform(image)
        # One layout, whether cached or not: the arithmetic of what follows may depend on it in the last bit.
        return image.permute(1, 2, 0).contiguous()


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """The items as one batch, as torch does it.

    Raises:
        UserError: the images differ in size.
    """
    sizes = sorted({tuple(item["image"].shape[1:]) for item in items})
    if len(sizes) > 1:
        (height, width), (other_height, other_width) = sizes[:2]
        raise UserError(
            f"The images of a batch must be of one size, but there are {width}×{height} and "
            f"{other_width}×{other_height} pixels: end dataset.train_transform and eval_transform with a crop."
        )
    return default_collate(list(items))
