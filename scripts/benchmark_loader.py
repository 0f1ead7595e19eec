"""Images a second through the training loader, against a bare PIL loop, with and without a cache.

    python scripts/benchmark_loader.py dataset=caltech101 dataset.root=…

Takes the overrides of `dml.train`. Batches are taken as bytes, which is how a training gets them, to make floats of
them on its device; and as floats, which the main process makes of them where there is no trainer. The ceiling for W
workers is W processes that each read, crop, resize and mirror images with PIL, make arrays of them, and do nothing
else; 0 workers are this process itself. All are timed in turn, round after round, over an epoch that directly follows
another, since workers prepare batches ahead. The best round of each counts, which a busy machine disturbs least. A
loader's speed includes what the main process does, so with as many workers as cores they are in each other's way.
"""

import multiprocessing
import os
import sys
import time
from functools import partial
from itertools import product
from multiprocessing.pool import Pool

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from torchvision.transforms import v2

from dml.config.build import build_data
from dml.config.cli import CONF
from dml.data.crop import RandomResizedCrop
from dml.data.datamodule import EmbeddingDataModule
from dml.data.loader import ImageLoader
from dml.data.steps import steps_of

ROUNDS, WORKERS, FORMS = 7, (0, 1, 2), ("bytes", "floats")
VARIANTS = {"decoding": "data.cache=null", "cache=ram": "data.cache=ram"}
BILINEAR = Image.Resampling.BILINEAR


def bare(files: list[str], side: int, crop: RandomResizedCrop, form: str) -> int:
    """What each image cannot do without; returns their number."""
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        if min(image.size) != side:
            scale = side / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), BILINEAR)
        part = crop.draw(image.height, image.width)
        box = (part.left, part.top, part.left + part.width, part.top + part.height)
        image = image.crop(box).resize((crop.size, crop.size), BILINEAR)
        if part.mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.array(image)
        if form == "floats":
            np.divide(pixels.transpose(2, 0, 1), 255, dtype=np.float32, order="C")
    return len(files)


def bare_speed(pool: Pool, data: EmbeddingDataModule, workers: int, form: str) -> float:
    """Images a second of that many bare loops at once."""
    resize, crop = steps_of(data.train_transform)
    if not isinstance(resize, v2.Resize) or not isinstance(crop, RandomResizedCrop):
        raise SystemExit("The bare loop can only do Resize and RandomResizedCrop: choose another dataset.")
    files = [str(file) for file in data.train_set.images]
    shares = [files[worker::workers] for worker in range(workers)]
    start = time.perf_counter()
    work = partial(bare, side=resize.size[0], crop=crop, form=form)
    count = sum(pool.map(work, shares, chunksize=1))
    return count / (time.perf_counter() - start)


def speed(loader: ImageLoader, form: str) -> float:
    """Images a second of an epoch that follows another."""
    loader.finish = form == "floats"
    for _ in loader:
        pass
    start = time.perf_counter()
    count = sum(len(batch["image"]) for batch in loader)
    return count / (time.perf_counter() - start)


def configured(*more: str) -> DictConfig:
    """The configuration of the command line, and more."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=["run_dir=.", *sys.argv[1:], *more])


def main() -> None:
    """Time everything and print it."""
    torch.set_num_threads(1)
    data = {name: build_data(configured(override)) for name, override in VARIANTS.items()}
    loaders: dict[tuple[str, int], ImageLoader] = {}
    for workers in WORKERS:
        for name, module in data.items():
            module.num_workers = workers
            loaders[name, workers] = module.train_dataloader()
    pools = {workers: multiprocessing.get_context("spawn").Pool(workers) for workers in WORKERS if workers}
    found: dict[tuple[str, str, int], list[float]] = {}
    for _, form, workers in product(range(1 + ROUNDS), FORMS, WORKERS):
        if workers:
            ceiling = bare_speed(pools[workers], data["decoding"], workers, form)
            found.setdefault(("bare PIL loop", form, workers), []).append(ceiling)
        for name in VARIANTS:
            found.setdefault((name, form, workers), []).append(speed(loaders[name, workers], form))
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, best of {ROUNDS} rounds; images a second:")
    # The first round starts the processes.
    best = {key: max(speeds[1:]) for key, speeds in found.items()}
    for (name, form, workers), fastest in best.items():
        ratio = fastest / best["bare PIL loop", form, max(1, workers)]
        print(f"{name:14s} {form:7s} {workers} worker(s) {fastest:9,.0f}   {ratio:5.2f} × the bare loop")
    for form, workers in product(FORMS, WORKERS):
        times = best["cache=ram", form, workers] / best["decoding", form, workers]
        print(f"an epoch with a cache, {form}, {workers} worker(s): {times:.2f} times as fast as without")


if __name__ == "__main__":
    main()
