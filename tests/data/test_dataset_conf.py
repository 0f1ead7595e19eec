"""The configurations of these datasets build what they say."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

import dml
from dml.data.datamodule import EmbeddingData

CONF = Path(dml.__file__).resolve().parents[1] / "conf"


def build(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(None, ["+seed=0", "+protocol=paper", "+data=default", *overrides])


def test_digits_train_in_batches_of_their_five_classes() -> None:
    data = instantiate(build("+dataset=digits", "+sampler=pk_5x16").data)
    assert isinstance(data, EmbeddingData)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (80, 1, 8, 8)
    assert torch.bincount(batch["label"]).tolist() == [16] * 5


def test_caltech_crops_are_112_pixels(shared_dir: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(shared_dir / "data" / "caltech101-128.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    cfg = build("+dataset=caltech101", "+sampler=pk_16x5", f"dataset.root={tmp_path}", "data.num_workers=0")
    data = instantiate(cfg.data)
    for batch in (next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))):
        assert batch["image"].shape[1:] == (3, 112, 112)
        assert 0 <= batch["image"].min() < 0.1 < 0.9 < batch["image"].max() <= 1
    assert data.num_classes == 50


@pytest.mark.parametrize("name", ["omniglot", "omniglot_small", "caltech101"])
def test_missing_images_are_one_sentence(name: str, tmp_path: Path) -> None:
    cfg = build(f"+dataset={name}", "+sampler=pk_20x4", f"dataset.root={tmp_path}")
    with pytest.raises(ValueError, match=r"does not hold images_background|does not hold 101_"):
        instantiate(cfg.data).setup()
