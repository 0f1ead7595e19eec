"""`model.json`: what a program needs to know to use an exported network."""

import json
from collections.abc import Mapping
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from dml.data.dataset import Transform
from dml.use.embedding import TrainedEmbedder
from dml.use.formats import FORMATS, INPUT, OUTPUT

NAME = "model.json"


def write_card(
    file: Path, trained: TrainedEmbedder, images: Tensor, config: DictConfig, parity: Mapping[str, Any]
) -> None:
    """Write the description of an exported network; of its images, (N, C, H, W), only shape and type are read."""
    packages = ("dml", "torch", "torchvision", *FORMATS[config.format].packages)
    card = {
        "file": f"model.{config.format}",
        "input": {
            "name": INPUT,
            "shape": ["batch", *images.shape[1:]],
            "dtype": str(images.dtype).removeprefix("torch."),
            "channels": "RGB" if trained.channels == 3 else "grey",
        },
        "output": {"name": OUTPUT, "shape": ["batch", trained.embedding_dim], "dtype": "float32"},
        "preprocessing": [*steps(trained.resize), *steps(trained.transform)],
        "embedding_dim": trained.embedding_dim,
        "fingerprint": trained.fingerprint,
        "checkpoint": str(config.ckpt_path),
        "parity": dict(parity),
        "versions": {name: version(name) for name in packages if any(distributions(name=name))},
    }
    file.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def steps(transform: Transform | None) -> list[dict[str, Any]]:
    """The parts of a transform in their order, in torchvision's words; one that is neither resize nor crop as text."""
    if transform is None:
        return []
    if isinstance(transform, v2.Compose):
        return [step for part in transform.transforms for step in steps(part)]
    step: dict[str, Any] = {"name": type(transform).__name__}
    if isinstance(transform, v2.Resize):
        # torchvision keeps what it was given: Pillow's number, its own enum or a word.
        mode: Any = transform.interpolation
        name = Image.Resampling(mode).name.lower() if isinstance(mode, int) else getattr(mode, "value", mode)
        return [step | {"size": transform.size, "max_size": transform.max_size, "interpolation": name}]
    if isinstance(transform, v2.CenterCrop):
        return [step | {"size": list(transform.size)}]
    return [step | {"text": str(transform)}]
