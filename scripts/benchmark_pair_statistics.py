"""What the live pair statistics cost a training step.

    python scripts/benchmark_pair_statistics.py experiment=omniglot_small_convnet dataset.root=…

Takes the overrides of `dml.train`. One network takes steps of forward, loss, backward and optimiser on one batch; the
statistics of the same batch are timed between the steps, so that a machine that slows down slows both.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning import seed_everything

from dml.callbacks.pair_statistics import pair_statistics
from dml.config.build import build_data, build_module
from dml.config.cli import CONF

ROUNDS, WARM_UP = 30, 3


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of a call, a GPU's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    """Time both in turn and print medians and the share at the configured interval."""
    with initialize_config_dir(CONF, version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        config = compose("train", overrides=[*sys.argv[1:], f"run_dir={folder}"])
        seed_everything(config.seed, workers=True, verbose=False)
        data = build_data(config)
        module = build_module(config, data.num_classes)
        every = config.callbacks.pair_statistics.every_n_steps
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module.to(device).train()
    optimizer = module.configure_optimizers()["optimizer"]
    batch = {key: value.to(device) for key, value in next(iter(data.train_dataloader())).items()}

    def step() -> None:
        optimizer.zero_grad()
        module.loss(module(batch["image"]), batch["label"]).backward()
        optimizer.step()

    z_BD = module(batch["image"]).detach()
    steps, costs = [], []
    for _ in range(WARM_UP + ROUNDS):
        steps.append(seconds(step))
        costs.append(seconds(lambda: pair_statistics(module.loss, z_BD, batch["label"])))
    a_step, a_call = statistics.median(steps[WARM_UP:]), statistics.median(costs[WARM_UP:])
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}, batch {tuple(z_BD.shape)}"
    )
    print(f"step        {a_step * 1e3:8.2f} ms")
    print(f"statistics  {a_call * 1e3:8.2f} ms, {a_call / a_step:.1%} of a step")
    print(f"every {every} steps: {a_call / every / a_step:.2%}")


if __name__ == "__main__":
    main()
