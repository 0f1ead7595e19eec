"""Images a second through the training loader, against a bare PIL loop, with and without a cache.

    python scripts/benchmark_loader.py dataset=caltech101 dataset.root=…

Takes the overrides of `dml.train`. The ceiling for W workers is W processes that each read, crop, resize and
mirror images with PIL, make float arrays of them, and do nothing else; 0 workers are this process itself. All are timed
in turn, round after round, and the best round of each counts, which a busy machine disturbs least. A loader's speed
includes what the main process does, so with as many workers as cores they are in each other's way.
"""

import multiprocessing
import os
import sys
import time
from functools import partial
from multiprocessing.pool import Pool

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from torchvision.transforms import v2

from dml.build import build_data
from dml.command import CONF
from dml.data.crop import RandomResizedCrop
from dml.data.datamodule import EmbeddingData
from dml.data.loader import ImageLoader
from dml.data.steps import steps_of

ROUNDS, WORKERS = 7, (0, 1, 2)
VARIANTS = {"decoding": "data.cache=null", "cache=ram": "data.cache=ram"}
BILINEAR = Image.Resampling.BILINEAR


def bare(files: list[str], side: int, crop: RandomResizedCrop) -> int:
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
        np.divide(np.asarray(image).transpose(2, 0, 1), 255, dtype=np.float32, order="C")
    return len(files)


def bare_speed(pool: Pool, data: EmbeddingData, workers: int) -> float:
    """Images a second of that many bare loops at once."""
    resize, crop = steps_of(data.train_transform)
    if not isinstance(resize, v2.Resize) or not isinstance(crop, RandomResizedCrop):
        raise SystemExit("The bare loop can only do Resize and RandomResizedCrop: choose another dataset.")
    files = [str(file) for file in data.train_set.images]
    shares = [files[worker::workers] for worker in range(workers)]
    start = time.perf_counter()
    count = sum(pool.map(partial(bare, side=resize.size[0], crop=crop), shares, chunksize=1))
    return count / (time.perf_counter() - start)


def speed(loader: ImageLoader) -> float:
    """Images a second of one epoch."""
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
    loaders, found = {}, dict[tuple[str, int], list[float]]()
    for workers in WORKERS:
        for name, module in data.items():
            module.num_workers = workers
            loaders[name, workers] = module.train_dataloader()
    pools = {workers: multiprocessing.get_context("spawn").Pool(workers) for workers in WORKERS if workers}
    for _ in range(1 + ROUNDS):
        for workers in WORKERS:
            if workers:
                ceiling = bare_speed(pools[workers], data["decoding"], workers)
                found.setdefault(("bare PIL loop", workers), []).append(ceiling)
            for name in VARIANTS:
                found.setdefault((name, workers), []).append(speed(loaders[name, workers]))
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, best of {ROUNDS} rounds; images a second:")
    # The first round starts the processes.
    best = {key: max(speeds[1:]) for key, speeds in found.items()}
    for (name, workers), fastest in best.items():
        ratio = fastest / best["bare PIL loop", max(1, workers)]
        print(f"{name:14s} {workers} worker(s) {fastest:9,.0f}   {ratio:5.2f} × the bare loop")
    for workers in WORKERS:
        times = best["cache=ram", workers] / best["decoding", workers]
        print(f"an epoch with a cache, {workers} worker(s): {times:.2f} times as fast as without")
    cached, decoded = (max(best[name, workers] for workers in WORKERS) for name in ("cache=ram", "decoding"))
    print(f"the fastest with a cache: {cached / decoded:.2f} × the fastest without")


if __name__ == "__main__":
    main()
