"""How much slower a training step of `dml.train` is than the same step in a bare PyTorch loop.

    python scripts/benchmark_step.py experiment=caltech101_squeezenet dataset.root=… model.weights=…

Takes the overrides of `dml.train`. Both loops train the same kind of network on the same loader, in turn, round
after round, so that a machine that slows down slows both.
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

from dml.build import build_data, build_learner, build_trainer
from dml.command import CONF
from dml.data.datamodule import EmbeddingData

ROUNDS, STEPS, WARM_UP = 5, 12, 2


class Clock(pl.Callback):
    """Notes the time after every training step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.times.append(time.perf_counter())


def durations(times: list[float]) -> list[float]:
    """Seconds of each step but the first ones."""
    return [after - before for before, after in zip(times[WARM_UP:-1], times[WARM_UP + 1 :], strict=True)]


def lightning_steps(config: DictConfig, data: EmbeddingData) -> list[float]:
    """Step times under the package's own trainer, callbacks and loggers."""
    clock = Clock()
    trainer = build_trainer(config)
    trainer.callbacks.append(clock)
    trainer.fit(build_learner(config, data.num_classes), datamodule=data)
    return durations(clock.times)


def bare_steps(config: DictConfig, data: EmbeddingData) -> list[float]:
    """Step times of forward, loss, backward and optimiser, and nothing else."""
    learner = build_learner(config, data.num_classes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, loss = learner.embedder.to(device).train(), learner.loss.to(device)
    optimizer = learner.configure_optimizers()["optimizer"]
    times = []
    for batch in endless(data):
        optimizer.zero_grad()
        batch = data.on_after_batch_transfer({key: value.to(device) for key, value in batch.items()}, 0)
        loss(network(batch["image"]), batch["label"]).backward()
        optimizer.step()
        times.append(time.perf_counter())
        if len(times) == STEPS:
            return durations(times)
    raise AssertionError("an endless loader ended")


def endless(data: EmbeddingData) -> Iterator[dict[str, torch.Tensor]]:
    """Training batches, epoch after epoch, from one loader."""
    loader = data.train_dataloader()
    while True:
        yield from loader


def main() -> None:
    """Run both loops in turn and print their medians and the ratio."""
    with initialize_config_dir(CONF, version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        fixed = [f"run_dir={folder}", f"trainer.max_steps={STEPS}", "+trainer.limit_val_batches=0"]
        config = compose("train", overrides=[*sys.argv[1:], *fixed])
        seed_everything(config.seed, workers=True, verbose=False)
        data = build_data(config)
        ours, bare = [], []
        for _ in range(ROUNDS):
            ours.append(statistics.median(lightning_steps(config, data)))
            bare.append(statistics.median(bare_steps(config, data)))
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {ROUNDS} rounds of {STEPS} steps")
    print(f"dml.train  {statistics.median(ours) * 1e3:8.1f} ms a step")
    print(f"bare loop  {statistics.median(bare) * 1e3:8.1f} ms a step")
    print(f"ratio      {statistics.median(ratios):8.3f}  (rounds: {', '.join(f'{r:.3f}' for r in ratios)})")


if __name__ == "__main__":
    main()
