"""Keeping decoded images, since decoding takes longer than a small network's step."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision

from dml.data.dataset import ImageDataset
from dml.data.download import only_one_process
from dml.data.fill import fill, sizes_of
from dml.data.pixels import Pixels
from dml.data.room import free_disk, free_memory, readable
from dml.errors import UserError

SHARE = 0.8  # of the free memory: training needs some, too


class PixelCache:
    """Image files as the transforms that always do the same leave them, decoded once.

    What follows, the random crop, is done each time anew, so a batch is the same with and without the cache.

    Args:
        kind: "ram", each process of a training keeps its own, shared by its workers; "disk", a file for all
            processes and later runs, made anew when the images, their resizing or the decoder change.
        folder: of the files, for "disk"; may be deleted at any time between runs.

    Raises:
        UserError: another kind; on use, images that do not fit or cannot be read.
    """

    def __init__(self, kind: str | None, folder: Path) -> None:
        if kind not in (None, "ram", "disk"):
            raise UserError(f"data.cache={kind} must be ram, disk or null.")
        self.kind, self.folder = kind, folder.expanduser()
        self.made: dict[str, Pixels] = {}

    def of(self, dataset: ImageDataset, processes: int = 1, quiet: bool = False) -> ImageDataset:
        """The dataset, its images kept; as it is where they are in memory anyway.

        Args:
            dataset: images in files.
            processes: how many on this machine each keep them in memory.
            quiet: print nothing.
        """
        if isinstance(dataset.images, np.ndarray):
            return dataset
        key = self.key(dataset)
        if key not in self.made:
            make = self._on_disk if self.kind == "disk" else self._in_memory
            self.made[key] = make(dataset, key, processes, quiet)
        return dataset.kept(self.made[key])

    def key(self, dataset: ImageDataset) -> str:
        """Names exactly these files, what is done to them, and by what."""
        versions = (PIL.__version__, torch.__version__, torchvision.__version__)
        digest = hashlib.sha256(repr((dataset.still, dataset.channels, versions)).encode())
        for file, name in zip(dataset.images, dataset.samples.names, strict=True):
            state = os.stat(file)
            line = f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def _in_memory(self, dataset: ImageDataset, key: str, processes: int, quiet: bool) -> Pixels:
        sizes = sizes_of(dataset)
        need, free = int(sizes.sum()) * processes, free_memory()
        each = f", in {processes} processes," if processes > 1 else ""
        _announce(f"data.cache=ram: {len(sizes):,} images{each} take {readable(need)}", free, quiet)
        if need > SHARE * free:
            raise UserError(
                f"data.cache=ram needs {readable(need)}{each} and {readable(free)} of shared memory are free: "
                "set data.cache=disk, or null."
            )
        flat = torch.empty(int(sizes.sum()), dtype=torch.uint8).share_memory_()
        return Pixels(flat, fill(dataset, sizes, flat.numpy(), quiet))

    def _on_disk(self, dataset: ImageDataset, key: str, processes: int, quiet: bool) -> Pixels:
        folder = self.folder / key
        with only_one_process(self.folder, "data.cache_dir"):
            if (found := _opened(folder)) is not None:
                if not quiet:
                    print(f"data.cache=disk: {len(dataset):,} images are in {folder} already.")
                return found
            sizes = sizes_of(dataset)
            need, free = int(sizes.sum()), free_disk(self.folder)
            _announce(
                f"data.cache=disk: {len(sizes):,} images take {readable(need)} in {folder}", free, quiet
            )
            if need > free:
                raise UserError(
                    f"data.cache=disk needs {readable(need)} in {self.folder}, where {readable(free)} are free: "
                    "set data.cache_dir to a folder on a larger disk, or data.cache=null."
                )
            _write(folder, int(need), lambda flat: fill(dataset, sizes, flat, quiet))
            found = _opened(folder)
            assert found is not None
            return found


def _write(folder: Path, size: int, fill: Callable[[np.ndarray], np.ndarray]) -> None:
    """Make a cache's folder, all or nothing."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        reserve(part / "pixels", size)
        flat = np.memmap(part / "pixels", np.uint8, "r+")
        shapes = fill(flat)
        flat.flush()
        index = {"modified": (part / "pixels").stat().st_mtime_ns, "shapes": shapes.tolist()}
        (part / "index.json").write_text(json.dumps(index))
        part.replace(folder)
    except OSError as error:
        raise UserError(f"Cannot write the cache {folder}: {error.strerror}; set data.cache_dir.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def reserve(file: Path, size: int) -> None:
    """A file of so many bytes; a disk that turns out full says so here, not by ending the process later."""
    with file.open("wb") as opened:
        opened.truncate(size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, size)


def _opened(folder: Path) -> Pixels | None:
    """The cache in a folder, unless there is none, or it is not as it was written."""
    try:
        index = json.loads((folder / "index.json").read_text())
        shapes = np.array(index["shapes"], dtype=np.int64)
        state = (folder / "pixels").stat()
        if (state.st_size, state.st_mtime_ns) != (shapes.prod(axis=1).sum(), index["modified"]):
            return None
        return Pixels(folder / "pixels", shapes)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _announce(sentence: str, free: int, quiet: bool) -> None:
    if not quiet:
        print(f"{sentence}; {readable(free)} are free.")
