"""Labelled images, one at a time, and batches of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision.transforms.functional import pil_to_tensor

from dml.data.cache import ImageCache
from dml.data.read_image import MODES, read_image
from dml.data.sampler import SampleKey
from dml.data.split import Samples
from dml.errors import UserError

Transform = Callable[[Image.Image], Any]


class ImageDataset(Dataset[dict[str, Any]]):
    """Labelled images as uint8 tensors.

    An item is `{"image": (C, H, W), "label": int, "index": int}`; index is the position in `samples`. Asked
    for a `SampleKey` instead of a position, the image is augmented from the key's seed alone, the same in any
    process, worker or resumed run. Transforms draw from torch's random numbers, which go on afterwards as if
    untouched.

    Args:
        samples: files, or uint8 images in memory.
        transform: from a PIL image to another or to a tensor (C, H, W), uint8 or float in [0, 1]; None leaves it as it
            is. Mean and standard deviation are the model's.
        channels: 1 (grey) or 3 (RGB); grey images become RGB, and files the other way round too.
        resize: from a PIL image to another, always the same; comes before `transform`.
        cache_dir: folder of an `ImageCache` for what `resize` returns; None decodes each time.

    Raises:
        UserError: `channels` is neither, or is 1 for colour images in memory; on access, a file that cannot be read.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Transform | None = None,
        channels: int = 3,
        resize: Transform | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        in_colour = isinstance(samples.images, np.ndarray) and samples.images.ndim == 4
        if channels not in MODES or (in_colour and channels == 1):
            raise UserError(f"dataset.channels={channels} does not fit: 3 is RGB, 1 is for grey images.")
        self.samples, self.channels = samples, channels
        self.resize, self.transform = resize, transform
        self.cache = ImageCache(cache_dir, f"{resize} {channels}") if cache_dir else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        index, seed = key if isinstance(key, SampleKey) else (key, None)
        image = self._resized(index)
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                if seed is not None:
                    # Not torch.manual_seed, which seeds the accelerators too.
                    torch.default_generator.manual_seed(seed)
                image = self.transform(image)
        if isinstance(image, Image.Image):
            image = pil_to_tensor(image)
        return {"image": image, "label": int(self.samples.labels[index]), "index": int(index)}

    def _resized(self, index: int) -> Image.Image:
        source = self.samples.images[index]
        if self.cache is None or not isinstance(source, Path):
            return self._decoded(source)
        return self.cache.get(source, lambda: self._decoded(source))

    def _decoded(self, source: Path | np.ndarray) -> Image.Image:
        if isinstance(source, Path):
            image = read_image(source, self.channels)
        else:
            image = Image.fromarray(source).convert(MODES[self.channels])
        return image if self.resize is None else self.resize(image)


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """The items as one batch, as torch does it; their images must be of one size."""
    sizes = sorted({tuple(item["image"].shape[1:]) for item in items})
    if len(sizes) > 1:
        (height, width), (other_height, other_width) = sizes[:2]
        raise UserError(
            f"The images of a batch must be of one size, but there are {width}×{height} and "
            f"{other_width}×{other_height} pixels: end dataset.train_transform and eval_transform with a crop."
        )
    return default_collate(list(items))
