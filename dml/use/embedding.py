"""From a checkpoint to vectors: `dml.load("…/best.ckpt").embed(images)`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from dml.config.build import build
from dml.config.evaluation import checkpoint_file
from dml.config.trusted import read_run
from dml.data.dataset import ImageDataset, Transform, collate
from dml.data.read_image import as_image
from dml.data.split import Samples
from dml.errors import UserError
from dml.models import Embedder
from dml.runs.checkpoints import load_weights

Source = str | Path | Image.Image | np.ndarray
# Trainer precisions that autocast, as Lightning names them.
AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass
class TrainedEmbedder:
    """A trained network and the preprocessing that it was tested with.

    Attributes:
        embedder: the network, in evaluation mode, from images (B, C, H, W) to embeddings (B, D).
        channels: C, 1 (grey) or 3 (RGB).
        resize, transform: what is done to a decoded image, in this order; None does nothing.
        precision: of the trainer that trained, such as "bf16-mixed".
        fingerprint: 12 hexadecimal digits that two checkpoints share if they have the same weights and preprocessing.
    """

    embedder: Embedder
    channels: int
    resize: Transform | None
    transform: Transform | None
    precision: str | None
    fingerprint: str

    @property
    def embedding_dim(self) -> int:
        """D, length of an embedding."""
        return self.embedder.embedding_dim

    @property
    def preprocessing(self) -> str:
        """What is done to a decoded image, as text."""
        return f"{self.resize} {self.transform} {self.channels}"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(iter(self.embedder.parameters())).device

    def to(self, device: str | torch.device) -> "TrainedEmbedder":
        """Move the network to a device; returns itself."""
        self.embedder.to(device)
        return self

    def embed(
        self,
        images: Source | Sequence[Source],
        batch_size: int = 64,
        num_workers: int = 0,
        progress: bool = False,
    ) -> Float[np.ndarray, "N D"]:
        """Embeddings of images, (N, D) float32 of length 1, in their order; (1, D) for a single image.

        Args:
            images: files, PIL images or uint8 arrays (H, W) or (H, W, 3), or one of them; an array (N, H, W) or
                (N, H, W, 3) is N images.
            batch_size: images that are embedded at a time.
            num_workers: processes that read files; 0 reads them in this one.
            progress: show a bar.

        Raises:
            UserError: an image cannot be read, or is of another kind; images of a batch differ in size.
        """
        batches = DataLoader(
            self.dataset(images), batch_size=batch_size, num_workers=num_workers, collate_fn=collate
        )
        shown = track(batches, "embedding", disable=not progress)
        found = [self.embed_batch(batch["image"]).cpu() for batch in shown]
        return torch.cat(found).numpy() if found else np.empty((0, self.embedding_dim), np.float32)

    @torch.no_grad()
    def embed_batch(self, images: Tensor) -> Float[Tensor, "B D"]:
        """Embeddings of preprocessed images (B, C, H, W), as the dataset gives them, on the network's device."""
        dtype, device = AUTOCAST.get(str(self.precision)), self.device
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return self.embedder(images.to(device)).float()

    def dataset(self, images: Source | Sequence[Source]) -> ImageDataset:
        """The preprocessed images, one at a time."""
        # (H, W, 1) and (H, W, 4) are refused as an image, rather than taken for H images.
        one = isinstance(images, str | Path | Image.Image) or (
            isinstance(images, np.ndarray) and images.shape[2:] in ((), (1,), (3,), (4,))
        )
        listed: Any = [images] if one else images
        sources: list[Any] = [self._source(image) for image in listed]
        names = [
            str(source) if isinstance(source, Path) else f"image {n}" for n, source in enumerate(sources)
        ]
        return self.dataset_of(sources, names)

    def dataset_of(self, sources: Sequence[Path | np.ndarray], names: Sequence[str]) -> ImageDataset:
        """The preprocessed images of files and uint8 arrays under their names."""
        samples = Samples(sources, np.zeros(len(sources), dtype=np.int64), names)
        return ImageDataset(samples, self.transform, self.channels, self.resize)

    def _source(self, image: Source) -> Path | np.ndarray:
        if isinstance(image, str | Path):
            return Path(image)
        if isinstance(image, Image.Image):
            return np.asarray(as_image(image.copy(), self.channels))
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] in ((), (3,)):
            return image
        what = (
            f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise UserError(f"{what} is no image: give files, PIL images or uint8 arrays (H, W) or (H, W, 3).")


def load(
    path: str | Path, device: str | torch.device | None = None, trust: str | Sequence[str] = ()
) -> TrainedEmbedder:
    """The network of a checkpoint with its preprocessing; no code from the file is run, and no dataset is needed.

    Args:
        path: of a checkpoint, or of a run's folder, whose best one is taken.
        device: to embed on; None takes a GPU if there is one.
        trust: your own modules that define the model or its transforms.

    Raises:
        UserError: the checkpoint cannot be read, or needs code that is not trusted.
    """
    file = checkpoint_file(path)
    run, weights, _ = read_run(file, trust=trust)
    embedder: Embedder = build(run.model)
    load_weights(embedder, weights, file)
    resize, transform = (
        build(run.data[key]) if run.data.get(key) else None for key in ("resize", "eval_transform")
    )
    channels = int(run.data.get("channels", 3))
    own = fingerprint(weights, f"{resize} {transform} {channels}")
    trained = TrainedEmbedder(embedder.eval(), channels, resize, transform, run.trainer.precision, own)
    return trained.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def fingerprint(weights: Mapping[str, Tensor], preprocessing: str) -> str:
    """12 hexadecimal digits of the SHA-256 of a network's weights and its preprocessing."""
    digest = hashlib.sha256(preprocessing.encode())
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
