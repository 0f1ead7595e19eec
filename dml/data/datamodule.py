"""A dataset as Lightning trains and evaluates on it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from dml.data.cache import cached
from dml.data.checks import check_dataset
from dml.data.dataset import ImageDataset, Transform, collate
from dml.data.loader import TrainLoader, whole_batches
from dml.data.protocol import EvaluationSet, relabel, split_by_protocol
from dml.data.sampler import PKBatchSampler
from dml.data.split import Samples, Split
from dml.errors import UserError, permitted

MAX_WORKERS = 8


class EmbeddingDataModule(pl.LightningDataModule):
    """Batches of P classes × K images to learn from, and sets of queries and galleries to be judged by.

    Every batch is `{"image": (B, C, H, W) uint8, "label": (B,), "index": (B,)}`; images that a transform made floats
    are float32 in [0, 1]. Training labels
    are numbered 0 … C−1 over the classes trained on; those of an evaluation set are positions in the split's
    classes.
    Run the trainer with `use_distributed_sampler=False`: the loaders share their batches to the processes
    themselves, the evaluation sets without padding.

    Args:
        split: the dataset, or what loads it when it is first needed.
        sampler: `PKBatchSampler` but for its labels, seed and processes; None where nothing is trained.
        resize: what is done first to every image, always the same, see `ImageDataset`.
        train_transform: augmentation of one resized image.
        eval_transform: what a resized image passes through in validation and test.
        extra_classes: from the training images, labels 0 … C−1, to more of more classes, `rotation_classes`.
        channels: 1 (grey) or 3 (RGB).
        protocol: "paper" or "holdout", see `split_by_protocol`.
        seed: of batches and augmentation, ≥ 0.
        eval_batch_size: images a batch in validation and test.
        num_workers: processes that load images; None takes none for images in memory, else one a core,
            at most 8.
        pin_memory: page-locked batches, for faster copies to a GPU; nothing where there is none.
        cache: keep decoded and resized images in a file, see `cached`; False decodes them each time.
        cache_dir: folder of the cache's files.

    Raises:
        UserError: in `setup`, whatever is wrong with the dataset, as far as reading headers tells.
    """

    def __init__(
        self,
        split: Split | Callable[[], Split],
        sampler: Callable[..., PKBatchSampler] | None = None,
        *,
        resize: Transform | None = None,
        train_transform: Transform | None = None,
        eval_transform: Transform | None = None,
        extra_classes: Callable[[Samples], Samples] | None = None,
        channels: int = 3,
        protocol: str = "paper",
        seed: int = 0,
        eval_batch_size: int = 256,
        num_workers: int | None = None,
        pin_memory: bool = True,
        cache: bool | str = False,
        cache_dir: str | Path = "~/.cache/dml",
    ) -> None:
        super().__init__()
        if not isinstance(cache, bool):
            raise UserError(
                f"data.cache={cache} must be true or false: write data.cache=true to keep decoded images in a file in "
                "data.cache_dir, which takes the place of ram and disk."
            )
        if protocol not in ("paper", "holdout"):
            raise UserError(f"protocol={protocol} must be paper or holdout.")
        self.split, self.sampler, self.seed = split, sampler, seed
        self.resize, self.train_transform, self.eval_transform = resize, train_transform, eval_transform
        self.channels, self.extra_classes = channels, extra_classes
        self.protocol, self.eval_batch_size = protocol, eval_batch_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.cache, self.cache_dir = cache, Path(cache_dir).expanduser()
        self._train: Samples | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load and check the dataset, once."""
        if self._train is not None:
            return
        with permitted():
            split = self.split if isinstance(self.split, Split) else self.split()
        check_dataset(split)
        self.loaded_split = split
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
        assert self.sampler is not None  # evaluation alone goes without
        sampler = self.sampler(samples.labels, seed=self.seed, rank=rank, world_size=world_size)
        dataset = self._dataset(samples, self.train_transform)
        return TrainLoader(dataset, sampler, **self._options(samples))

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """This process's part of the validation images."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """This process's part of the test images."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, stage: str) -> DataLoader[dict[str, Any]]:
        samples = self.evaluation_set(stage).samples
        dataset = self._dataset(samples, self.eval_transform)
        batches = whole_batches(len(samples), self.eval_batch_size, *self._process())
        return DataLoader(dataset, batch_sampler=batches, **self._options(samples))

    def _dataset(self, samples: Samples, transform: Transform | None) -> ImageDataset:
        dataset = ImageDataset(samples, transform, self.channels, self.resize)
        if not self.cache:
            return dataset
        return cached(dataset, self.cache_dir, self._workers(samples), quiet=self._process()[0] > 0)

    def _process(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _workers(self, samples: Samples) -> int:
        if self.num_workers is not None:
            return self.num_workers
        return 0 if isinstance(samples.images, np.ndarray) else min(MAX_WORKERS, cores())

    def _options(self, samples: Samples) -> dict[str, Any]:
        workers = self._workers(samples)
        return {
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": self.pin_memory and torch.cuda.is_available(),
            "collate_fn": collate,
            # Torch draws a seed for its workers; from the global random numbers it would change what dropout draws.
            "generator": torch.Generator(),
        }


def cores() -> int:
    """Cores that this process may use; all of the machine's where the system cannot tell, as on macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def data_of(trainer: pl.Trainer) -> EmbeddingDataModule:
    """The data module that the trainer runs on."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, EmbeddingDataModule)
    return data
