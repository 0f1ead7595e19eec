"""A checkpoint of an untrained network, and the two commands on it without a command line."""

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from dml.config.build import build_model
from dml.config.cli import CONF
from dml.use.index_folder import Items, State, read_items, read_state
from dml.use.indexing import run as run_index
from dml.use.searching import Found
from dml.use.searching import run as run_search

NETWORK = (
    "dataset=folder",
    "model=convnet",
    "model.blocks=2",
    "model.embedding_dim=16",
    "dataset.resize=null",
    "dataset.train_transform=null",
    "dataset.eval_transform=null",
)


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(name, [*overrides])


def write_checkpoint(file: Path, seed: int = 0) -> Path:
    """An untrained network for images of any size, 16 dimensions."""
    torch.manual_seed(seed)
    config = composed("train", *NETWORK, "run_dir=.")
    weights = {f"embedder.{key}": value for key, value in build_model(config.model).state_dict().items()}
    torch.save({"state_dict": weights, "config": OmegaConf.to_container(config, resolve=False)}, file)
    return file


def index(folder: Path, *overrides: str) -> State:
    """`python -m dml.index out=<folder> …` in this process."""
    own = ("trainer.accelerator=cpu", "data.num_workers=0")
    return run_index(composed("index", f"out={folder}", *own, *overrides))


def search(folder: Path, image: Path, *overrides: str) -> list[list[Found]]:
    """`python -m dml.search index=<folder> image=<image> …` in this process, into <folder>/../found."""
    own = (f"run_dir={folder.parent / 'found'}", "device=cpu", "overwrite=true")
    return run_search(composed("search", f"index={folder}", f"image={image}", *own, *overrides))


def items_of(folder: Path) -> Items:
    return read_items(folder, read_state(folder))
