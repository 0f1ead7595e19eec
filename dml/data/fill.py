"""Decoding all images of a dataset, once, side by side."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import rich.progress
import torch
from jaxtyping import Int64, UInt8
from PIL import Image

from dml.data.cores import cores
from dml.data.dataset import ImageDataset


def sizes_of(dataset: ImageDataset) -> Int64[np.ndarray, "N"]:
    """Bytes of every image in the cache, from the files' headers.

    An image that EXIF turns upright has its sides swapped, and the same number of bytes.
    """

    @cache
    def size(height: int, width: int) -> int:
        image = torch.empty(dataset.channels, height, width, dtype=torch.uint8, device="meta")
        for transform in dataset.still:
            image = transform(image)
        return image.numel()

    def header(file: Path) -> tuple[int, int]:
        with Image.open(file) as image:
            return image.height, image.width

    with ThreadPoolExecutor(4 * cores()) as pool:
        shapes = list(pool.map(header, dataset.images))
    return np.array([size(*shape) for shape in shapes], dtype=np.int64)


def fill(
    dataset: ImageDataset, sizes: Int64[np.ndarray, "N"], flat: UInt8[np.ndarray, "n"], quiet: bool
) -> Int64[np.ndarray, "N 3"]:
    """Decode all images into `flat`, one after the other; returns their shapes.

    By threads: decoding and resizing leave Python to others.
    """
    ends = sizes.cumsum()

    def place(index: int) -> tuple[int, ...]:
        image = dataset.pixels(index).numpy()
        flat[ends[index] - image.size : ends[index]] = image.reshape(-1)
        return image.shape

    with ThreadPoolExecutor(cores()) as pool:
        try:
            placed = pool.map(place, range(len(sizes)))
            shown = rich.progress.track(placed, "Decoding images", total=len(sizes), disable=quiet)
            shapes = np.array(list(shown), dtype=np.int64)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return shapes
