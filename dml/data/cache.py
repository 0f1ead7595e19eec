"""A file of decoded images, since decoding takes longer than a small network's step."""

import fcntl
import hashlib
import json
import os
from copy import copy
from pathlib import Path

import numpy as np
import PIL
import torchvision
from jaxtyping import Int64, UInt8
from rich.progress import track
from torch.utils.data import DataLoader

from dml.data.dataset import ImageDataset
from dml.errors import UserError


class CachedImages:
    """Images, uint8, grey (H, W) or RGB (H, W, 3), end to end in a file, which the page cache shares between processes.

    Args:
        file: the file.
        shapes: height, width and channels of every image.
    """

    def __init__(self, file: Path, shapes: Int64[np.ndarray, "N 3"]) -> None:
        self.file, self.shapes = file, shapes
        self.sizes = shapes.prod(axis=1)
        self.starts = self.sizes.cumsum() - self.sizes

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"]:
        pixels = np.fromfile(self.file, np.uint8, self.sizes[index], offset=self.starts[index])
        height, width, channels = self.shapes[index]
        return pixels.reshape((height, width) if channels == 1 else (height, width, channels))


def cached(dataset: ImageDataset, folder: Path, workers: int = 0, quiet: bool = False) -> ImageDataset:
    """The dataset with its images decoded and resized once; as it is where they are in memory anyway.

    A later run finds the file by the names, sizes and times of the images, their `resize`, and the versions of PIL and
    torchvision. A file that was changed or cut short is made anew. Processes that want the same file wait for the one
    that makes it. The transforms are done anew each time, so a batch is the same with and without the cache.

    Args:
        dataset: images in files.
        folder: of the cache's files; may be deleted between runs.
        workers: processes that decode.
        quiet: print nothing.

    Raises:
        UserError: the folder cannot be written or its disk is full; an image cannot be read.
    """
    if isinstance(dataset.images, np.ndarray):
        return dataset
    file = folder / f"{_key(dataset)}.images"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            shapes = _shapes(file)
            if shapes is None:
                shapes = _make(file, dataset, workers, quiet)
    except OSError as error:
        raise UserError(
            f"Cannot write the cache {file}: {error.strerror}; set data.cache_dir to another folder, "
            "or data.cache=false."
        ) from error
    if not quiet:
        print(f"data.cache: {len(shapes):,} images in {file} ({file.stat().st_size / 1e9:.1f} GB).")
    with_cache = copy(dataset)
    with_cache.images, with_cache.resize = CachedImages(file, shapes), None
    return with_cache


def _key(dataset: ImageDataset) -> str:
    """Names exactly these files, what is done to them, and by what."""
    done = (dataset.resize, dataset.channels, PIL.__version__, torchvision.__version__)
    digest = hashlib.sha256(repr(done).encode())
    for image, name in zip(dataset.images, dataset.samples.names, strict=True):
        state = os.stat(image)
        line = f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _make(file: Path, dataset: ImageDataset, workers: int, quiet: bool) -> Int64[np.ndarray, "N 3"]:
    """Write the images and then the index, each whole or not at all; returns their shapes."""
    images = DataLoader(dataset.untransformed(), batch_size=None, num_workers=workers)
    shapes, part = [], file.with_suffix(".part")
    try:
        with part.open("wb") as stream:
            for item in track(images, "Decoding images", total=len(dataset), disable=quiet):
                pixels = item["image"].permute(1, 2, 0).contiguous().numpy()
                stream.write(pixels.data)
                shapes.append(pixels.shape)
        part.replace(file)
        index = {"modified": file.stat().st_mtime_ns, "shapes": shapes}
        part.write_text(json.dumps(index))
        part.replace(file.with_suffix(".json"))
    finally:
        part.unlink(missing_ok=True)
    return np.array(shapes, dtype=np.int64)


def _shapes(file: Path) -> Int64[np.ndarray, "N 3"] | None:
    """Shapes of the images in the file; None if there is no such file, or it is not as it was written."""
    try:
        index = json.loads(file.with_suffix(".json").read_text())
        shapes = np.array(index["shapes"], dtype=np.int64)
        state = file.stat()
        intact = (state.st_size, state.st_mtime_ns) == (shapes.prod(axis=1).sum(), index["modified"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shapes if intact else None
