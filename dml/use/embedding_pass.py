"""One pass over many images on any number of devices, that a kill interrupts at the cost of a part."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from joblib import cpu_count
from omegaconf import DictConfig
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dml.config.build import build
from dml.data.dataset import ImageDataset, collate
from dml.data.loader import TimedLoader
from dml.errors import UserError
from dml.runs.failures import serve_parent
from dml.use.embedding import TrainedEmbedder
from dml.use.listing import Files, Listed
from dml.use.parts import PART, part_file, write_part


class ReadableImages(Dataset[dict[str, Any]]):
    """Images, of which one that cannot be read is `{"index": …, "problem": sentence}`."""

    def __init__(self, images: ImageDataset) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return self.images[index]
        except UserError as error:
            if isinstance(error.__cause__, MemoryError):  # which says nothing about the file
                raise
            return {"index": index, "problem": str(error)}


def collate_readable(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The images that can be read as a batch, `image` None if there is none, and the `problems` of the others."""
    problems = {item["index"]: item["problem"] for item in items if "problem" in item}
    readable = [item for item in items if "problem" not in item]
    batch = collate(readable) if readable else {"image": None, "index": torch.empty(0, dtype=torch.int64)}
    return {"image": batch["image"], "index": batch["index"], "problems": problems}


class PassModule(pl.LightningModule):
    """The network. Processes exchange nothing, so that one without images keeps none waiting."""

    def __init__(self, embedder: TrainedEmbedder) -> None:
        super().__init__()
        self.embedder = embedder.embedder

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        return None if batch["image"] is None else self.embedder(batch["image"]).float()


class PassData(pl.LightningDataModule):
    """The parts that are not there yet, part n on process n modulo their number, in batches.

    Batches are the same for every number of processes, since the last bit of an embedding can depend on the size of
    its batch. `num_workers` processes read images; None takes one a core, at most 8.
    """

    def __init__(
        self, images: ImageDataset, folder: Path, first: int, batch_size: int, num_workers: int | None
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.images, self.folder, self.first = images, folder, first
        self.batch_size, self.num_workers = batch_size, num_workers

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        assert self.trainer is not None
        size, batches = len(self.images), []
        for start in range(self.trainer.global_rank * PART, size, self.trainer.world_size * PART):
            if not part_file(self.folder, self.first + start).is_file():
                end = min(start + PART, size)
                batches += [
                    range(a, min(a + self.batch_size, end)) for a in range(start, end, self.batch_size)
                ]
        workers = min(8, cpu_count()) if self.num_workers is None else self.num_workers
        return TimedLoader(
            ReadableImages(self.images),
            seconds=300 if workers else 0,
            batch_sampler=batches,
            num_workers=workers,
            worker_init_fn=serve_parent,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate_readable,
            generator=torch.Generator(),
        )


class PartWriter(pl.Callback):
    """Writes each part when its last batch is embedded."""

    def __init__(self, folder: Path, first: int, size: int, dim: int) -> None:
        self.folder, self.first, self.size, self.dim = folder, first, size, dim
        self.begin(0)

    def begin(self, start: int) -> None:
        """Expect the part that begins at image `start`."""
        self.start, self.left = start, min(PART, self.size - start)
        self.z_BD = np.full((max(self.left, 0), self.dim), np.nan, dtype=np.float32)
        self.problems: dict[int, str] = {}

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        index, problems = batch["index"].cpu().numpy(), batch["problems"]
        start = min([*index.tolist(), *problems]) // PART * PART
        if start != self.start:
            self.begin(start)
        if outputs is not None:
            self.z_BD[index - start] = outputs.cpu().numpy()
        self.problems |= {self.first + n: said for n, said in problems.items()}
        self.left -= len(index) + len(problems)
        if self.left == 0:
            write_part(self.folder, self.first + start, self.z_BD, self.problems)


class EmbeddingBar(TQDMProgressBar):
    """Lightning's bar of a test, by its right name; none where the output goes to a file."""

    test_description = "Embedding"

    def __init__(self) -> None:
        super().__init__(1 if sys.stdout.isatty() else 0)


def embed_parts(
    trained: TrainedEmbedder, listed: Listed, folder: Path, first: int, trainer: DictConfig, data: DictConfig
) -> None:
    """Embed images into the parts of an index's folder from row `first` on; parts that are there are left as they are.

    Every process of a run must call; when one returns, all parts are there.
    """
    starts = range(first, first + len(listed.names), PART)
    if all(part_file(folder, start).is_file() for start in starts):
        return
    writer = PartWriter(folder, first, len(listed.names), trained.embedding_dim)
    lightning = build(trainer, callbacks=[writer, EmbeddingBar()], logger=False, precision=trained.precision)
    images = trained.dataset_of(Files(listed.root, listed.names), listed.names)
    loader = PassData(images, folder, first, data.eval_batch_size, data.num_workers)
    warnings.filterwarnings("ignore", message=".*zero length")
    lightning.test(PassModule(trained), datamodule=loader, verbose=False)
    lightning.strategy.barrier()
