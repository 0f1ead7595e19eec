"""A whole run on 1, 2 and 3 processes: the same weights, the same metrics to the last digit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning import seed_everything
from worlds import in_world

from dml.config.build import build_data, build_module, build_trainer
from dml.config.cli import CONF
from dml.data.datasets import digits
from dml.data.split import Samples, Split
from dml.runs.loggers import read_rows
from dml.runs.training import train

RUN = (
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "trainer.log_every_n_steps=1",
    "model.embedding_dim=8",
    "optimizer=sgd",  # Adam divides rounding by itself
    "model.freeze_batchnorm=true",
    "sampler.images_per_class=3",
    "data.eval_batch_size=400",  # three batches of 896 images, the last one smaller
    "callbacks.retrieval_grid=null",
    "report=false",
    "+trainer.enable_progress_bar=false",
    "callbacks.progress=null",
)


def composed(folder: Path, *overrides: str) -> DictConfig:
    size = dist.get_world_size()
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", [f"run_dir={folder / 'run'}", f"trainer.devices={size}", *RUN, *overrides])


def losses(folder: Path) -> list[float]:
    dist.barrier()
    rows = read_rows(folder / "run" / "metrics.csv")
    return [float(row["train/loss"]) for row in rows if row["train/loss"]]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    figures = train(composed(folder, *overrides))
    checkpoint = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    return {"figures": figures, "weights": checkpoint["state_dict"], "losses": losses(folder)}


def run_with_memory(folder: Path) -> dict[str, Any]:
    """20 steps of the margin loss, with random mining; the memory begins at the fifth, is full at the 13th."""
    memory = ("memory=xbm", "memory.size=500", "memory.start=4")
    steps = ("trainer.max_steps=20", "trainer.val_check_interval=20", "callbacks.recall.nmi=false")
    # With float32 weights, rounding takes the embeddings 1e-5 apart in 20 steps; and so it does where untrained
    # embeddings lie close together, as on a larger canvas: the root of a small 2 − 2S has half its digits.
    exact = ("trainer.precision=64-true", "dataset.canvas=8")
    config = composed(folder, "loss=margin", *exact, *memory, *steps)
    seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config)
    module = build_module(config, data.num_classes)
    build_trainer(config).fit(module, datamodule=data)
    return {"state": module.state_dict(), "losses": losses(folder)}


def with_gallery(canvas: int) -> Split:
    """The digits parted like In-Shop: 299 queries, an uneven number, search the other 597 test images."""
    split = digits.load(canvas=canvas)
    query, gallery = (part(split.query, np.arange(896) % 3 == 0), part(split.query, np.arange(896) % 3 != 0))
    return Split(split.classes, split.train, query, gallery)


def part(samples: Samples, chosen: np.ndarray) -> Samples:
    names = [name for name, one in zip(samples.names, chosen, strict=True) if one]
    return Samples(samples.images[chosen], samples.labels[chosen], names)


def everything(folder: Path) -> dict[str, Any]:
    found = run(folder)
    found["still"] = run(folder / "still", "optimizer.lr=0", "trainer.max_steps=1")["figures"]
    found["local"] = run(folder / "local", "sampler.scope=local")["figures"]
    found["memory"] = run_with_memory(folder / "memory")
    # Two batches of images: of three processes the last has none of its own.
    gallery = (f"dataset.split._target_={__name__}.with_gallery", "data.eval_batch_size=500")
    found["gallery"] = run(folder / "gallery", *gallery, "optimizer.lr=0", "trainer.max_steps=1")["figures"]
    return found


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> dict[int, list[dict[str, Any]]]:
    return {size: in_world(size, tmp_path_factory.mktemp(f"run{size}"), everything) for size in (1, 2, 3)}


def retrieval(figures: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name.startswith(("test/", "val/"))}


@pytest.mark.parametrize("size", [2, 3])
def test_metrics_agree_to_the_last_digit_and_weights_to_rounding(worlds, size):
    [one] = worlds[1]
    for found in worlds[size]:
        for name, weight in one["weights"].items():
            assert torch.allclose(found["weights"][name], weight, atol=1e-5), name
        assert found["still"] == one["still"]
        assert found["gallery"] == one["gallery"]
        assert found["gallery"]["test/recall_at_1"] not in (found["still"]["test/recall_at_1"], 0, 1)
        assert found["figures"] == worlds[size][0]["figures"]
        assert len(found["losses"]) == 6
        assert found["losses"] == pytest.approx(one["losses"], rel=1e-5)
    # Trained weights agree to rounding only, and so do the metrics; those of equal weights are equal, see above.
    assert retrieval(worlds[size][0]["figures"]) == pytest.approx(retrieval(one["figures"]), abs=0.01)


@pytest.mark.parametrize("size", [2, 3])
def test_a_batch_of_its_own_for_each_process_learns_something_else(worlds, size):
    assert worlds[size][0]["local"] != worlds[size][0]["figures"]
    assert worlds[size][0]["local"] == worlds[size][1]["local"]


@pytest.mark.parametrize("size", [2, 3])
def test_a_memory_holds_the_same_on_every_process_as_on_one(worlds, size):
    [one] = (found["memory"] for found in worlds[1])
    assert len(one["losses"]) == 20
    batch = 60
    assert (one["state"]["memory.seen"], one["state"]["memory.stored"]) == (20, 16 * batch)
    first = worlds[size][0]["memory"]["state"]
    for found in (world["memory"] for world in worlds[size]):
        assert found["losses"] == pytest.approx(one["losses"], abs=1e-5)
        assert found["state"].keys() == one["state"].keys()
        for name, value in one["state"].items():
            assert torch.equal(found["state"][name], first[name]), name
            assert torch.allclose(found["state"][name], value, rtol=0, atol=1e-5), name
