"""A dataset as Lightning trains and evaluates on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from joblib import cpu_count
from torch.utils.data import DataLoader

from dml.data.checks import check_dataset, without_bad_files
from dml.data.dataset import ImageDataset, Transform, collate
from dml.data.loader import TimedLoader, TrainLoader, whole_batches
from dml.data.protocol import EvaluationSet, split_by_protocol
from dml.data.sampler import PKBatchSampler
from dml.data.split import Samples, Split
from dml.distributed import gather_objects
from dml.errors import UserError, permitted
from dml.runs.failures import serve_parent


class EmbeddingDataModule(pl.LightningDataModule):
    """Batches of P classes × K images for training, and queries and galleries for evaluation.

    Every batch is `{"image": (B, C, H, W) uint8, "label": (B,), "index": (B,)}`; images that a transform made floats
    are float32 in [0, 1]. Training labels are numbered 0 … C−1 over the classes trained on; those of an evaluation set
    are positions in the split's classes. Run the trainer with `use_distributed_sampler=False`: the loaders share their
    batches to the processes themselves, the evaluation sets without padding.

    Args:
        split: the dataset, or what loads it when it is first needed.
        sampler: `PKBatchSampler` without its labels, seed and processes; None where nothing is trained, and training
            images are neither needed nor looked at.
        resize: first transform of every image, always the same; see `ImageDataset`.
        train_transform: augmentation of a resized training image.
        eval_transform: transform of a resized image in validation and test.
        extra_classes: makes images of more classes from the training images, such as `rotation_classes`.
        channels: 1 (grey) or 3 (RGB).
        protocol: "paper" or "holdout", see `split_by_protocol`.
        seed: of batches and augmentation, ≥ 0.
        eval_batch_size: images a batch in validation and test.
        num_workers: processes that load images; None takes none for images in memory, else one a core,
            at most 8.
        worker_timeout: seconds to wait for a batch from them, after which one is taken to hang; 0 waits for ever.
        pin_memory: page-locked batches, for faster copies to a GPU; nothing where there is none.
        cache: keep decoded and resized images in files, see `ImageCache`; False decodes them each time.
        cache_dir: folder of the cache's files.
        on_bad_image: "error" refuses a dataset with an image that cannot be read; "skip" decodes all images before
            training and leaves those out, so that the split and its fingerprint are others.

    Attributes:
        loaded_split: the dataset; like the following, there after `setup`.
        classes: names of all classes, training and test.
        train_set: the images trained on, labels 0 … C−1.
        train_classes: names of the classes trained on, before `extra_classes`.
        num_classes: C, number of classes trained on.
        skipped: names of the images left out by `on_bad_image`; None if that is "error".

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
        worker_timeout: float = 300,
        pin_memory: bool = True,
        cache: bool | str = False,
        cache_dir: str | Path = "~/.cache/dml",
        on_bad_image: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        if not isinstance(cache, bool):
            raise UserError(
                f"data.cache={cache} must be true or false: write data.cache=true, in place of ram and disk, to keep "
                "decoded images in data.cache_dir."
            )
        if protocol not in ("paper", "holdout"):
            raise UserError(f"protocol={protocol} must be paper or holdout.")
        self.split, self.sampler, self.seed = split, sampler, seed
        self.resize, self.train_transform, self.eval_transform = resize, train_transform, eval_transform
        self.channels, self.extra_classes = channels, extra_classes
        self.protocol, self.eval_batch_size = protocol, eval_batch_size
        self.num_workers, self.worker_timeout, self.pin_memory = num_workers, worker_timeout, pin_memory
        self.cache_dir = Path(cache_dir).expanduser() if cache else None
        self.skipped: list[str] | None = [] if on_bad_image == "skip" else None

    def setup(self, stage: str | None = None) -> None:
        """Load and check the dataset, once."""
        if hasattr(self, "loaded_split"):
            if self.skipped is not None and len({*map(str, gather_objects(self.skipped))}) > 1:
                raise UserError(
                    "The processes of this run skip different images, so one of them reads the disk badly: look at it, "
                    "or leave out what python -m dml.prepare … --verify lists."
                )
            return
        with permitted():
            split = self.split if isinstance(self.split, Split) else self.split()
        if self.skipped is not None:
            split, self.skipped = without_bad_files(split)
        check_dataset(split, trains=self.sampler is not None)
        train, self._evaluation = split_by_protocol(split, self.protocol)
        kept, labels = np.unique(train.labels, return_inverse=True)
        self.classes, self.train_classes = split.classes, [str(split.classes[c]) for c in kept]
        train = replace(train, labels=labels)
        self.train_set = train if self.extra_classes is None else self.extra_classes(train)
        self.num_classes = len(np.unique(self.train_set.labels))
        self.loaded_split = split

    def test_on(self, samples: Samples) -> None:
        """Take these images as the test set, and no dataset; whoever calls has checked them."""
        nothing = samples.subset(np.arange(0))
        self.loaded_split = Split(["image"], train=nothing, query=samples)
        self._evaluation = {"test": EvaluationSet.of(samples)}

    def skipped_figures(self) -> dict[str, Any]:
        """Number and names of the images left out, for `metrics.json`; nothing where none may be."""
        if self.skipped is None:
            return {}
        return {"images_skipped": len(self.skipped), "skipped_images": self.skipped}

    def evaluation_set(self, stage: str) -> EvaluationSet:
        """The images of stage "val" or "test", in the order of their batches' indices."""
        return self._evaluation[stage]

    def train_dataloader(self) -> TrainLoader:
        """This process's shares of the P×K batches."""
        assert self.sampler is not None  # evaluation alone goes without
        rank, world_size = self._process()
        labels = self.train_set.labels
        sampler = self.sampler(labels, seed=self.seed, rank=rank, world_size=world_size)
        return TrainLoader(sampler=sampler, **self._options(self.train_set, self.train_transform))

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """This process's part of the validation images."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """This process's part of the test images."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, stage: str) -> DataLoader[dict[str, Any]]:
        samples = self.evaluation_set(stage).samples
        batches = whole_batches(len(samples), self.eval_batch_size, *self._process())
        return TimedLoader(batch_sampler=batches, **self._options(samples, self.eval_transform))

    def _process(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _options(self, samples: Samples, transform: Transform | None) -> dict[str, Any]:
        """Arguments that the training and evaluation loaders share."""
        workers = self.num_workers
        if workers is None:
            workers = 0 if isinstance(samples.images, np.ndarray) else min(8, cpu_count())
        return {
            "dataset": ImageDataset(samples, transform, self.channels, self.resize, self.cache_dir),
            "num_workers": workers,
            "seconds": self.worker_timeout if workers else 0,
            "worker_init_fn": serve_parent,
            "persistent_workers": workers > 0,
            "pin_memory": self.pin_memory and torch.cuda.is_available(),
            "collate_fn": collate,
            # Torch draws a seed for its workers; from the global random numbers it would change what dropout draws.
            "generator": torch.Generator(),
        }


def data_of(trainer: pl.Trainer) -> EmbeddingDataModule:
    """The data module that the trainer runs on."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, EmbeddingDataModule)
    return data
