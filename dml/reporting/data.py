"""What a report needs of the embeddings and the images, kept in `report.json`: the network is not run again."""

import base64
import json
import platform
from collections.abc import Sequence
from copy import deepcopy
from importlib.metadata import distributions, version
from io import BytesIO
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from dml.analysis.weight_curves import Row, weight_curves
from dml.callbacks.retrieval_metrics import retrieval_metrics_of
from dml.data.datamodule import EmbeddingDataModule, data_of
from dml.losses import PairLoss
from dml.reporting.content import shown
from dml.reporting.embeddings import map_method, project, sample, similarity_histogram
from dml.reporting.queries import queries_of
from dml.reporting.render import DATA, render
from dml.runs.failures import whole_file
from dml.runs.picture import noted

FEWEST = 10  # images that a map needs
SMALL, LARGE = 56, 112  # pixels of a thumbnail in the map and in a list
PACKAGES = ("dml", "torch", "pytorch-lightning", "faiss-cpu", "scikit-learn", "numpy")


def report(
    folder: Path, trainer: pl.Trainer, config: DictConfig, seconds: float, loss: PairLoss | None = None
) -> None:
    """Write `report.json` and `report.html` beside the figures of a test that has just ended.

    The folder holds its `metrics.json` and `queries.csv`. Without the loss that was trained with, as in an evaluation,
    there are no weights. Where the disk or an image does not let it, a note says so.
    """
    with noted(folder / "report.html", "written"):
        content = {
            "config": OmegaConf.to_yaml(config),
            "loss": str(config.loss.get("_target_")).rpartition(".")[2] if "loss" in config else None,
            "published": OmegaConf.to_container(config.published) if config.get("published") else {},
            "hours": seconds / 3600,
            "versions": versions(),
            **collect(folder, trainer, config, loss),
        }
        with whole_file(folder / DATA) as part:
            part.write_text(json.dumps(content))
        render(folder)


def collect(folder: Path, trainer: pl.Trainer, config: DictConfig, loss: PairLoss | None) -> dict[str, Any]:
    """Thumbnails, map, histograms and weights of a test."""
    data, metrics = data_of(trainer), retrieval_metrics_of(trainer)
    samples = data.evaluation_set("test").samples
    index_M = sample(samples.labels)
    z_MD = torch.nn.functional.normalize(metrics.embeddings[index_M].double().cpu(), dim=1)
    histogram = similarity_histogram(z_MD, torch.from_numpy(samples.labels[index_M]))
    collapsed = bool(metrics.collapse())
    points = (
        [] if collapsed or len(index_M) < FEWEST else project(z_MD.numpy(), config.get("seed", 0)).tolist()
    )
    small = {samples.names[i]: SMALL for i in index_M} if points else {}
    large = dict.fromkeys(shown(queries_of(folder), collapsed), LARGE)
    return {
        "images": thumbnails(data, small | large),
        "images_tested": len(samples),
        "map": [
            {"name": samples.names[i], "class": str(data.classes[samples.labels[i]]), "at": at}
            for i, at in zip(index_M.tolist(), points, strict=False)
        ],
        "map_method": map_method(),
        "histogram": histogram,
        "weights": None if loss is None else weights(loss, config, histogram),
    }


def thumbnails(data: EmbeddingDataModule, sizes: dict[str, int]) -> dict[str, str]:
    """Test images as the network sees them, by name; `sizes` gives the pixels of each one's longer side.

    Raises:
        UserError: an image cannot be read.
    """
    images: Any = data.test_dataloader().dataset
    place = {name: i for i, name in enumerate(data.evaluation_set("test").samples.names)}
    return {name: thumbnail(images[place[name]]["image"], size) for name, size in sizes.items()}


def thumbnail(image_CHW: Tensor, size: int) -> str:
    """A smaller image in WebP and base64; pixels of a tiny one become squares."""
    image = to_pil_image(image_CHW)
    if larger := size // max(image.size):
        image = image.resize((image.width * larger, image.height * larger), Image.Resampling.NEAREST)
    image.thumbnail((size, size))
    with BytesIO() as stream:
        image.save(stream, "WEBP", quality=70 if size == LARGE else 60, method=2)
        return base64.b64encode(stream.getvalue()).decode()


def weights(loss: PairLoss, config: DictConfig, histogram: dict[str, Any]) -> dict[str, Any] | None:
    """Weight curves of the run's loss for an anchor of its batch; None for a loss with proxies.

    The anchor's other pairs are as many as the sampler gives, spread over the middle 80% of the test's similarities.
    """
    deciles = [histogram["positive_deciles"], histogram["negative_deciles"]]
    # A row of a loss with proxies does not hold similarities of images.
    if type(loss).forward is not PairLoss.forward or None in deciles:
        return None
    p, k = (int(config.sampler[key]) for key in ("classes_per_batch", "images_per_class"))
    ranges: list[Sequence[float]] = [(d[1], d[9]) for d in deciles]
    row = Row(min(k - 1, 10_000), min((p - 1) * k, 10_000), *ranges)
    curves = weight_curves(deepcopy(loss).cpu(), row, points=201)
    row_R = row.similarity().tolist()
    return {name: values.tolist() for name, values in curves._asdict().items()} | {
        "positive_row": row_R[: row.positives],
        "negative_row": row_R[row.positives :],
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a figure may depend on; without dml's, if it is not installed."""
    installed = (package for package in PACKAGES if any(distributions(name=package)))
    return {"python": platform.python_version()} | {package: version(package) for package in installed}
