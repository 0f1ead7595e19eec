"""How much slower a training step of `dml.train` is than the same step in a bare PyTorch loop.

    python scripts/benchmark_step.py experiment=caltech101_squeezenet dataset.root=… model.weights=…

Takes the overrides of `dml.train`. The bare loop trains the same kind of network on a loader of the same kind. A step
of one follows a step of the other, so that a machine that slows down slows both; the ratio is the median of the pairs'.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning import seed_everything

from dml.config.build import build_data, build_module, build_trainer
from dml.config.cli import CONF
from dml.data.datamodule import EmbeddingDataModule

STEPS, WARM_UP = 80, 10
Time = tuple[float, float]  # on the clock and of the processor, all threads of this process; in seconds


def now() -> Time:
    return time.perf_counter(), time.process_time()


class Alternately(pl.Callback):
    """Takes a bare step after each of the trainer's, and the time of both."""

    def __init__(self, bare: Iterator[None]) -> None:
        self.bare, self.start = bare, now()
        self.times: list[
            tuple[Time, Time, Time]
        ] = []  # beginning, end of the trainer's step, end of the bare one

    def on_train_batch_end(self, *args: Any) -> None:
        middle = now()
        next(self.bare)
        self.times.append((self.start, middle, now()))
        self.start = now()


def bare_steps(config: DictConfig, data: EmbeddingDataModule) -> Iterator[None]:
    """Each time a step: batch, forward, loss, backward and optimiser, and nothing else."""
    module = build_module(config, data.num_classes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, loss = module.embedder.to(device).train(), module.loss.to(device)
    optimizer = module.configure_optimizers()["optimizer"]
    loader = data.train_dataloader()
    while True:
        for batch in loader:
            optimizer.zero_grad()
            batch = {key: value.to(device) for key, value in batch.items()}
            loss(network(batch["image"]), batch["label"]).backward()
            optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            yield


def main() -> None:
    """Run both loops step by step and print the medians and the ratio."""
    with initialize_config_dir(CONF, version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        fixed = [f"run_dir={folder}", f"trainer.max_steps={STEPS}", "+trainer.limit_val_batches=0"]
        config = compose("train", overrides=[*sys.argv[1:], *fixed])
        seed_everything(config.seed, workers=True, verbose=False)
        both = Alternately(bare_steps(config, build_data(config)))
        trainer, data = build_trainer(config), build_data(config)
        trainer.callbacks.append(both)
        trainer.fit(build_module(config, data.num_classes), datamodule=data)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {STEPS - WARM_UP} pairs of steps")
    for i, kind in enumerate(("clock", "processor")):
        pairs = [(b[i] - a[i], c[i] - b[i]) for a, b, c in both.times[WARM_UP:]]
        ours, bare = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
        low, ratio, high = statistics.quantiles([mine / theirs for mine, theirs in pairs], n=4)
        print(f"{kind:10}dml.train {ours:7.1f} ms a step, bare loop {bare:7.1f} ms, ", end="")
        print(f"ratio {ratio:.3f} (half of the pairs: {low:.3f}–{high:.3f})")


if __name__ == "__main__":
    main()
