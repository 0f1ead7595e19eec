"""How much slower a training step of `dml.train` is than the same step in a bare PyTorch loop.

    python scripts/benchmark_step.py experiment=caltech101_squeezenet dataset.root=… model.weights=…

Takes the overrides of `dml.train`. Both loops train the same kind of network on the same loader, in turn, round
after round, so that a machine that slows down slows both. Of a machine with company only the processor's time (of the
process and its threads, without the loader's workers) means anything.
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

ROUNDS, STEPS, WARM_UP = 7, 12, 2
Time = tuple[float, float]  # on the clock and of the processor, in seconds


def now() -> Time:
    return time.perf_counter(), time.process_time()


class Clock(pl.Callback):
    """Notes the time after every training step."""

    def __init__(self) -> None:
        self.times: list[Time] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.times.append(now())


def a_step(times: list[Time]) -> Time:
    """The median of the steps but the first ones."""
    steps = list(zip(times[WARM_UP:-1], times[WARM_UP + 1 :], strict=True))
    clock, processor = (statistics.median(after[i] - before[i] for before, after in steps) for i in (0, 1))
    return clock, processor


def lightning_step(config: DictConfig, data: EmbeddingData) -> Time:
    """A step's time under the package's own trainer, callbacks and loggers."""
    clock = Clock()
    trainer = build_trainer(config)
    trainer.callbacks.append(clock)
    trainer.fit(build_learner(config, data.num_classes), datamodule=data)
    return a_step(clock.times)


def bare_step(config: DictConfig, data: EmbeddingData) -> Time:
    """A step's time with forward, loss, backward and optimiser, and nothing else."""
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
        times.append(now())
        if len(times) == STEPS:
            return a_step(times)
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
            ours.append(lightning_step(config, data))
            bare.append(bare_step(config, data))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {ROUNDS} rounds of {STEPS} steps")
    for i, kind in enumerate(("clock", "processor")):
        mine, theirs = ([times[i] for times in rounds] for rounds in (ours, bare))
        ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
        print(f"{kind:10}dml.train {statistics.median(mine) * 1e3:7.1f} ms a step, ", end="")
        print(
            f"bare loop {statistics.median(theirs) * 1e3:7.1f} ms, ratio {statistics.median(ratios):.3f} ",
            end="",
        )
        print(f"(rounds: {', '.join(f'{r:.3f}' for r in ratios)})")


if __name__ == "__main__":
    main()
