"""The configurations of the datasets build what they say, and go with both protocols."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from dml.config.build import build_data
from dml.data.datamodule import EmbeddingDataModule
from dml.data.split import Samples, Split
from dml.errors import UserError

Compose = Callable[..., DictConfig]
TRAIN_CLASSES = {
    "cub": 100,
    "cars": 98,
    "sop": 11_318,
    "inshop": 3_997,
    "caltech101": 50,
    "omniglot": 964,
    "omniglot_small": 70,
}


def test_digits_train_in_batches_of_their_five_classes(compose: Compose) -> None:
    data = build_data(compose("dataset=digits", "sampler=pk_5x16", "dataset.extra_classes=null"))
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (80, 1, 16, 16)
    assert torch.bincount(batch["label"]).tolist() == [16] * 5


def test_held_out_digits_leave_classes_enough(compose: Compose) -> None:
    """Two of five digits are held out first; the other three in eight orientations are 24 classes ≥ P = 20."""
    data = build_data(compose("dataset=digits", "protocol=holdout"))
    assert (data.num_classes, len(data.train_classes)) == (24, 3)
    held = set(np.unique(data.evaluation_set("val").labels).tolist())
    assert len(held) == 2
    assert {int(name) for name in data.train_classes} | held == set(range(5))
    batch = next(iter(data.train_dataloader()))
    assert len(batch["label"].unique()) == 20


@pytest.mark.parametrize("name", TRAIN_CLASSES)
def test_holdout_leaves_every_benchmark_classes_enough(compose: Compose, name: str) -> None:
    """A stand-in of six images a class, of one pixel, with the sampler that the dataset brings."""
    classes = TRAIN_CLASSES[name]
    labels = np.repeat(np.arange(classes + 1), 6)
    pixels = np.zeros((len(labels), 1, 1), np.uint8)
    names = [str(i) for i in range(len(labels))]
    train, test = np.split(np.arange(len(labels)), [6 * classes])
    split = Split(
        [str(c) for c in range(classes + 1)],
        Samples(pixels[train], labels[train], names[: len(train)]),
        Samples(pixels[test], labels[test], names[len(train) :]),
    )
    config = compose(f"dataset={name}", "protocol=holdout")
    data = EmbeddingDataModule(split, instantiate(config.sampler), protocol="holdout")
    data.setup()
    assert len(next(iter(data.train_dataloader()))["label"].unique()) == config.sampler.classes_per_batch


def test_caltech_crops_are_112_pixels(compose: Compose, shared_dir: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(shared_dir / "data" / "caltech101-128.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    config = compose("dataset=caltech101", f"dataset.root={tmp_path}", "data.num_workers=0")
    data = build_data(config)
    for batch in (next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))):
        assert batch["image"].shape[1:] == (3, 112, 112)
        assert batch["image"].min() < 26 < 229 < batch["image"].max()
    assert data.num_classes == 50


@pytest.mark.parametrize("name", ["omniglot", "omniglot_small", "caltech101"])
def test_missing_images_are_one_sentence(compose: Compose, name: str, tmp_path: Path) -> None:
    config = compose(f"dataset={name}", f"dataset.root={tmp_path}")
    with pytest.raises(UserError, match=r"does not hold images_background|does not hold 101_"):
        build_data(config)
