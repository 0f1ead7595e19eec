"""Images a second through the training loader, beside a bare PIL loop, and with the cache.

    python scripts/benchmark_loader.py dataset=caltech101 dataset.root=…

Takes the overrides of `dml.train`; the dataset's transforms must be Resize, RandomResizedCrop and flip. The bare loop
for W workers is W processes that each read, resize, crop and flip images with PIL, make arrays of them, and do nothing
else. All are timed in turn, round after round. Speeds are the best round's, which a busy machine disturbs least; ratios
are taken within a round, and their median counts.
"""

import math
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from dml.config.build import build_data
from dml.config.cli import CONF
from dml.data.loader import TrainLoader

ROUNDS, WORKERS = 5, (1, 2)
BILINEAR = Image.Resampling.BILINEAR


def bare(files: list[str], side: int, size: int, scale: tuple[float, float]) -> int:
    """Read, resize, crop and flip every image; returns their number."""
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        if min(image.size) != side:
            factor = side / min(image.size)
            image = image.resize((round(image.width * factor), round(image.height * factor)), BILINEAR)
        area = image.width * image.height * random.uniform(*scale)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width = min(image.width, round(math.sqrt(area * ratio)))
        height = min(image.height, round(math.sqrt(area / ratio)))
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        image = image.resize((size, size), BILINEAR, box=(left, top, left + width, top + height))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        np.array(image)
    return len(files)


def bare_speed(pool: Pool, files: list[str], workers: int, options: dict[str, Any]) -> float:
    """Images a second of that many bare loops at once."""
    start = time.perf_counter()
    shares = [files[worker::workers] for worker in range(workers)]
    return sum(pool.map(partial(bare, **options), shares, chunksize=1)) / (time.perf_counter() - start)


def speed(loader: TrainLoader) -> float:
    """Images a second of an epoch, its workers running already."""
    start = time.perf_counter()
    return sum(len(batch["image"]) for batch in loader) / (time.perf_counter() - start)


def spread(ratios: list[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def main() -> None:
    """Time everything and print it."""
    torch.set_num_threads(1)
    with initialize_config_dir(CONF, version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        config = compose("train", overrides=["run_dir=.", *sys.argv[1:], f"data.cache_dir={folder}"])
        crop = config.dataset.train_transform.transforms[0]
        options = {"side": config.dataset.resize.size, "size": crop.size, "scale": tuple(crop.scale)}
        runs = {}
        for workers in WORKERS:
            pool = multiprocessing.get_context("spawn").Pool(workers)
            for cache in (False, True):
                config.data.update(num_workers=workers, cache=cache)
                data = build_data(config)
                name = "data.cache" if cache else "decoding"
                runs[name, workers] = partial(speed, data.train_dataloader())
            files = [str(file) for file in data.train_set.images]
            runs["bare PIL loop", workers] = partial(bare_speed, pool, files, workers, options)
        found = [{key: run() for key, run in runs.items()} for _ in range(1 + ROUNDS)]
    # The first round starts the processes.
    best = {key: max(speeds[key] for speeds in found[1:]) for key in runs}
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, best of {ROUNDS} rounds; images a second:")
    for (name, workers), fastest in best.items():
        print(f"{name:14s} {workers} worker(s) {fastest:9,.0f}")
    for workers in WORKERS:
        beside = [speeds["decoding", workers] / speeds["bare PIL loop", workers] for speeds in found[1:]]
        cached = [speeds["data.cache", workers] / speeds["decoding", workers] for speeds in found[1:]]
        print(
            f"{workers} worker(s): decoding {spread(beside)} times the bare loop, with the cache {spread(cached)} "
            "times as fast as decoding"
        )


if __name__ == "__main__":
    main()
