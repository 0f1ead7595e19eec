"""A dataset as Lightning trains and evaluates on it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from dml.data.batch import finished
from dml.data.cache import PixelCache
from dml.data.checks import check_files, check_split
from dml.data.cores import cores
from dml.data.dataset import ImageDataset
from dml.data.loader import ImageLoader, TrainLoader
from dml.data.protocol import EvaluationSet, relabel, split_by_protocol
from dml.data.sampler import PKBatchSampler
from dml.data.shares import whole_batches
from dml.data.split import Samples, Split
from dml.data.steps import Transform, last_step
from dml.errors import UserError, permitted

MAX_WORKERS = 8


class EmbeddingDataModule(pl.LightningDataModule):
    """Batches of P classes × K images to learn from, and sets of queries and galleries to be judged by.

    Every batch is `{"image": (B, C, H, W) float32 in [0, 1], "label": (B,), "index": (B,)}`. Training labels
    are numbered 0 … C−1 over the classes trained on; those of an evaluation set are positions in the split's
    classes.
    Run the trainer with `use_distributed_sampler=False`: the loaders share their batches to the processes
    themselves, the evaluation sets without padding.

    Args:
        split: the dataset, or what loads it when it is first needed.
        sampler: `PKBatchSampler` but for its labels, seed and processes.
        train_transform: augmentation of one image, see `ImageDataset`.
        eval_transform: what an image passes through in validation and test.
        extra_classes: from the training images, labels 0 … C−1, to more of more classes, `rotation_classes`.
        channels: 1 (grey) or 3 (RGB).
        protocol: "paper" or "holdout", see `split_by_protocol`.
        seed: of batches and augmentation, ≥ 0.
        eval_batch_size: images a batch in validation and test.
        num_workers: processes that load images; None takes none for images in memory, else one a core,
            at most 8.
        pin_memory: page-locked batches, for faster copies to a GPU; nothing where there is none.
        cache: keep decoded images in "ram" or on "disk", see `PixelCache`; None decodes them each time.
        cache_dir: folder for cache="disk".
        augment: where the last transform is done: "worker", image by image, or "device", a batch at a time
            (see `Halved`), which leaves more time to those who decode.

    Raises:
        UserError: in `setup`, whatever is wrong with the dataset, as far as reading headers tells.
    """

    def __init__(
        self,
        split: Split | Callable[[], Split],
        sampler: Callable[..., PKBatchSampler],
        *,
        train_transform: Transform | None = None,
        eval_transform: Transform | None = None,
        extra_classes: Callable[[Samples], Samples] | None = None,
        channels: int = 3,
        protocol: str = "paper",
        seed: int = 0,
        eval_batch_size: int = 256,
        num_workers: int | None = None,
        pin_memory: bool = True,
        cache: str | None = None,
        cache_dir: str | Path = "~/.cache/dml",
        augment: str = "worker",
    ) -> None:
        super().__init__()
        if augment not in ("worker", "device"):
            raise UserError(f"data.augment={augment} must be worker or device.")
        if protocol not in ("paper", "holdout"):
            raise UserError(f"protocol={protocol} must be paper or holdout.")
        self.split, self.sampler, self.seed = split, sampler, seed
        self.train_transform, self.eval_transform, self.channels = train_transform, eval_transform, channels
        self.extra_classes = extra_classes
        self.protocol, self.eval_batch_size = protocol, eval_batch_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.cache, self.augment = PixelCache(cache, Path(cache_dir)), augment
        self._train: Samples | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load and check the dataset, once."""
        if self._train is not None:
            return
        with permitted():
            split = self.split if isinstance(self.split, Split) else self.split()
        check_split(split)
        self.loaded_split = split
        check_files(split.train, split.query, split.gallery)
        learning, self._evaluation = split_by_protocol(split, self.protocol)
        self.classes: Sequence[str] = split.classes
        train, kept = relabel(learning)
        self.train_classes = [str(split.classes[c]) for c in kept]
        self._train = train if self.extra_classes is None else self.extra_classes(train)

    @property
    def train_set(self) -> Samples:
        """The images trained on, labels 0 … C−1."""
        self.setup()
        assert self._train is not None
        return self._train

    @property
    def num_classes(self) -> int:
        """C, number of classes trained on."""
        return len(np.unique(self.train_set.labels))

    def evaluation_set(self, stage: str) -> EvaluationSet:
        """The images of stage "val" or "test", in the order of their batches' indices."""
        self.setup()
        return self._evaluation[stage]

    def train_dataloader(self) -> TrainLoader:
        """This process's shares of the P×K batches."""
        samples = self.train_set
        rank, world_size = self._process()
        sampler = self.sampler(samples.labels, seed=self.seed, rank=rank, world_size=world_size)
        dataset = ImageDataset(samples, self.train_transform, self.channels, self.augment == "device")
        return TrainLoader(self._kept(dataset), sampler, **self._options(samples))

    def val_dataloader(self) -> ImageLoader:
        """This process's part of the validation images."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> ImageLoader:
        """This process's part of the test images."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, stage: str) -> ImageLoader:
        samples = self.evaluation_set(stage).samples
        rank, world_size = self._process()
        dataset = ImageDataset(samples, self.eval_transform, self.channels)
        batches = whole_batches(len(samples), self.eval_batch_size, rank, world_size)
        return ImageLoader(self._kept(dataset), batches, max(map(len, batches)), **self._options(samples))

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Under a trainer, batches travel as bytes, a quarter as large, and are finished on the device."""
        return finished(batch, last_step(self.train_transform))

    def _kept(self, dataset: ImageDataset) -> ImageDataset:
        """The dataset with its images in the cache, if there is one."""
        if self.cache.kind is None:
            return dataset
        devices = self.trainer.num_devices if self.trainer else 1
        return self.cache.of(dataset, devices, quiet=self._process()[0] > 0)

    def _process(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _options(self, samples: Samples) -> dict[str, Any]:
        workers = self.num_workers
        if workers is None:
            workers = 0 if isinstance(samples.images, np.ndarray) else min(MAX_WORKERS, cores())
        pin = self.pin_memory and torch.cuda.is_available()
        # Without a trainer nobody calls `on_after_batch_transfer`: the loader finishes batches itself.
        return {"workers": workers, "pin_memory": pin, "finish": self.trainer is None}


def data_of(trainer: pl.Trainer) -> EmbeddingDataModule:
    """The data module that the trainer runs on."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, EmbeddingDataModule)
    return data
