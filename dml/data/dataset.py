"""Images and labels, one at a time or in batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from dml.data.batch import Empty, finished, stacked
from dml.data.halved import Halved
from dml.data.pixels import Pixels
from dml.data.read_image import MODES, read_image
from dml.data.split import Samples
from dml.data.steps import Transform, changes_nothing, last_step, still_and_moving
from dml.errors import UserError


class SampleKey(NamedTuple):
    """One image of a training batch: which one, and the seed of its augmentation."""

    image: int
    seed: int


class ImageDataset(Dataset[dict[str, Any]]):
    """Labelled images as float32 tensors in [0, 1].

    An item is `{"image": (C, H, W), "label": int, "index": int}`; index is the position in `samples`. Asked
    for a `SampleKey` instead of a position, the image is augmented from the draw's seed alone, the same in any
    process, worker or resumed run. Transforms draw from torch's random numbers, which go on afterwards as if
    untouched.

    Args:
        samples: files, or uint8 images in memory.
        transform: from a uint8 tensor (C, H, W) to such a tensor or a float one in [0, 1]; None leaves it as
            it is. Mean and standard deviation are the model's.
        channels: 1 (grey) or 3 (RGB); grey images become RGB, and files the other way round too.
        halved: let the last transform, a `Halved`, be finished on whole batches.

    Attributes:
        still: the transforms at the beginning that always do the same.
        moving: the others.

    Raises:
        UserError: `channels` is neither, or is 1 for colour images in memory; `halved` and the last transform
            has no halves; on access, a file that cannot be read.
    """

    def __init__(
        self, samples: Samples, transform: Transform | None = None, channels: int = 3, halved: bool = False
    ) -> None:
        in_colour = isinstance(samples.images, np.ndarray) and samples.images.ndim == 4
        if channels not in MODES or (in_colour and channels == 1):
            raise UserError(f"dataset.channels={channels} does not fit: 3 is RGB, 1 is for grey images.")
        self.samples, self.channels = samples, channels
        self.images: Any = samples.images
        self.still, self.moving = still_and_moving(transform)
        self.halved, self.last = halved, last_step(transform)
        if halved and not isinstance(self.last, Halved):
            raise UserError(
                "data.augment=device: dataset.train_transform must end in dml.data.crop.RandomResizedCrop or "
                "dml.data.transforms.RandomAffine; or set data.augment=worker."
            )

    def kept(self, images: Pixels) -> "ImageDataset":
        """The same, with images at hand that the first transforms have been through."""
        other = copy(self)
        other.images, other.still = images, []
        return other

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        batch = finished(self.begun([key]), self.last)
        return {"image": batch["image"][0], "label": int(batch["label"][0]), "index": int(batch["index"][0])}

    def begun(self, keys: Sequence[int | SampleKey], empty: Empty = torch.empty) -> dict[str, Any]:
        """A batch as it travels from a worker: smaller, since what the whole batch can share is not done yet.

        Args:
            keys: B ≥ 1 of them.
            empty: makes the tensor of whole images.

        Returns:
            `image`, (B, C, H, W), uint8 unless a transform made it float; `label` and `index`, (B,) int64. With
            `halved`, `image` are the parts that are needed and `numbers`, (B, n), what was drawn for them. Only
            `image` is a tensor: torch puts each in shared memory, which costs more than to send a few numbers.

        Raises:
            UserError: the images differ in size, or one cannot be read.
        """
        index = np.array([key.image if isinstance(key, SampleKey) else key for key in keys])
        batch = {"label": self.samples.labels[index], "index": index}
        with random_numbers_kept():
            augmented = map(self._augmented, keys)
            if not self.halved:
                return {"image": stacked(augmented, len(keys), empty), **batch}
            parts, numbers = zip(*augmented, strict=True)
        return {"image": self.last.gather(list(parts)), "numbers": np.stack(numbers), **batch}

    def _augmented(self, key: int | SampleKey) -> Any:
        """An image after all transforms, or with `halved` what `begin` returns; changes torch's random numbers."""
        if isinstance(key, SampleKey):
            # Not torch.manual_seed, which seeds the accelerators too.
            torch.default_generator.manual_seed(key.seed)
            key = key.image
        image = self.pixels(key).permute(2, 0, 1)
        for transform in self.moving[:-1] if self.halved else self.moving:
            image = transform(image)
        return self.last.begin(image) if self.halved else image

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


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Torch's random numbers on the CPU may be drawn and seeded inside and go on outside as if untouched."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
