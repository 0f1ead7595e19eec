"""The data module: labels, evaluation sets, sharing between processes, repeatability and resumption."""

import errno
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from dml.data.datamodule import EmbeddingDataModule
from dml.data.datasets import digits
from dml.data.sampler import PKBatchSampler
from dml.data.split import Samples, Split
from dml.errors import UserError

AFFINE = v2.RandomAffine(10.0, (0.06, 0.06), (0.9, 1.1))


def numbered(labels: list[int], start: int = 0) -> Samples:
    """Images of 2×2 pixels, each of one grey level that is its number."""
    numbers = start + np.arange(len(labels))
    images = np.broadcast_to(numbers[:, None, None], (len(labels), 2, 2)).astype(np.uint8)
    return Samples(images, np.array(labels), [f"{n}" for n in numbers])


TINY = Split(["a", "b", "c", "d", "e", "f"], numbered([5, 5, 1, 1, 3, 3]), numbered([0, 0, 2], 6))


def module(
    split: Any = TINY, *, P: int = 3, K: int = 2, steps: int | None = 4, **options: Any
) -> EmbeddingDataModule:
    sampler = partial(PKBatchSampler, classes_per_batch=P, images_per_class=K, steps_per_epoch=steps)
    data = EmbeddingDataModule(split, sampler, **{"channels": 1, "seed": 3, **options})
    data.setup()
    return data


def of_process(data: EmbeddingDataModule, rank: int, world_size: int) -> EmbeddingDataModule:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    return data


def test_training_labels_are_renumbered_over_the_training_classes() -> None:
    data = module()
    assert (data.num_classes, data.train_classes) == (3, ["b", "d", "f"])
    assert data.train_set.labels.tolist() == [2, 2, 0, 0, 1, 1]
    for batch in data.train_dataloader():
        assert batch["image"][:, 0, 0, 0].tolist() == batch["index"].tolist()
        assert batch["label"].tolist() == data.train_set.labels[batch["index"]].tolist()


def test_a_batch_is_bytes_with_the_channels_asked_for() -> None:
    batch = next(iter(module(digits.load, P=5, K=16, channels=3).train_dataloader()))
    assert (batch["image"].shape, batch["image"].dtype) == ((80, 3, 8, 8), torch.uint8)
    assert (batch["image"].min(), batch["image"].max()) == (0, 255)
    assert torch.equal(batch["image"][:, 0], batch["image"][:, 2])


def test_queries_search_one_another_unless_there_is_a_gallery() -> None:
    alone = module().evaluation_set("test")
    assert (alone.query_index.tolist(), alone.gallery_index) == ([0, 1, 2], None)
    split = Split(TINY.classes, TINY.train, TINY.query, numbered([2, 0], 9))
    both = module(split).evaluation_set("val")
    assert both.gallery_index is not None
    assert (both.query_index.tolist(), both.gallery_index.tolist()) == ([0, 1, 2], [3, 4])
    assert both.labels.tolist() == [0, 0, 2, 2, 0]
    assert list(both.samples.names) == ["6", "7", "8", "9", "10"]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_evaluation_image_comes_from_exactly_one_process(world_size: int) -> None:
    seen = []
    for rank in range(world_size):
        data = of_process(module(digits.load, P=5, eval_batch_size=100), rank, world_size)
        seen += [i for batch in data.test_dataloader() for i in batch["index"].tolist()]
    assert sorted(seen) == list(range(896))


def test_the_paper_protocol_validates_on_the_test_set() -> None:
    data = module(protocol="paper")
    assert data.evaluation_set("val") is data.evaluation_set("test")


def test_holdout_keeps_whole_training_classes_for_validation() -> None:
    labels = np.repeat(np.arange(20), 3).tolist()
    split = Split([str(c) for c in range(21)], numbered(labels), numbered([20, 20], 60))
    first, again = module(split, protocol="holdout"), module(split, protocol="holdout", seed=4)
    held = set(first.evaluation_set("val").labels.tolist())
    assert len(held) == 4
    assert held == set(again.evaluation_set("val").labels.tolist())
    assert {int(name) for name in first.train_classes} == set(range(20)) - held
    assert len(first.train_set) + len(first.evaluation_set("val").samples) == 60
    assert first.evaluation_set("test").labels.tolist() == [20, 20]


def test_held_out_classes_of_one_image_each_are_refused() -> None:
    split = Split([*"abcdefg"], numbered([0, 1, 2, 3, 4, 5]), numbered([6, 6], 6))
    with pytest.raises(
        UserError, match=r"protocol=holdout would validate on [a-f], [a-f], classes of one image each"
    ):
        module(split, protocol="holdout")


@pytest.mark.parametrize("workers", [0, 2])
def test_augmented_batches_do_not_depend_on_the_workers_or_on_what_else_draws(workers: int) -> None:
    def epochs(num_workers: int) -> list[Tensor]:
        data = module(digits.load, P=5, train_transform=AFFINE, num_workers=num_workers)
        loader, images = data.train_dataloader(), []
        for _ in range(2):
            torch.rand(3)
            images += [batch["image"] for batch in loader]
        return images

    reference, images = epochs(0), epochs(workers)
    assert all(torch.equal(a, b) for a, b in zip(reference, images, strict=True))
    assert not torch.equal(images[0], images[4])


def test_two_processes_together_see_the_augmented_batches_of_one() -> None:
    def images(rank: int, world_size: int) -> list[Tensor]:
        data = of_process(module(digits.load, P=5, K=3, train_transform=AFFINE), rank, world_size)
        return [batch["image"] for batch in data.train_dataloader()]

    for one, left, right in zip(images(0, 1), images(0, 2), images(1, 2), strict=True):
        assert (len(left), len(right)) == (8, 7)
        assert torch.equal(one, torch.cat([left, right]))


def test_an_image_drawn_twice_is_augmented_in_two_ways() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8)).astype(np.uint8)
    train = Samples(np.repeat(images, [1, 4], axis=0), np.array([0, 1, 1, 1, 1]), list("abcde"))
    split = Split(["0", "1", "2"], train, numbered([2, 2]))
    batch = next(iter(module(split, P=2, K=4, train_transform=AFFINE).train_dataloader()))
    copies = batch["image"][batch["index"] == 0]
    assert len(copies) == 4
    assert len(copies.unique(dim=0)) == 4


class Recorder(pl.LightningModule):
    """Remembers which images each step saw; one weight, so that Lightning has something to train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[list[int], float]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen.append((batch["index"].tolist(), batch["image"].sum().item()))
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(pl.Callback):
    """Saves a checkpoint in the midst of training, after a step."""

    def __init__(self, step: int, file: Path) -> None:
        self.step, self.file = step, file

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.file)


class SaveAtEnd(pl.Callback):
    """Saves a checkpoint when training has ended."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_fit_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.file)


def train(steps: int, workers: int = 0, checkpoint: Path | None = None, **options: Any) -> list:
    """What each training step saw."""
    model, data = Recorder(), module(digits.load, P=5, train_transform=AFFINE, num_workers=workers)
    quiet = dict.fromkeys(
        ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=-1, max_steps=steps, use_distributed_sampler=False, **quiet, **options
    )
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint)
    return model.seen


@pytest.fixture(scope="module")
def unbroken() -> list:
    return train(14)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stop", [2, 4, 7, 8])
def test_a_resumed_run_sees_what_an_unbroken_one_does(
    tmp_path: Path, unbroken: list, workers: int, stop: int
) -> None:
    """4 steps an epoch: the checkpoint is of the middle or the end of the first or second."""
    assert len({tuple(index) for index, _ in unbroken}) == 14
    file = tmp_path / "saved.ckpt"
    assert train(11, workers, callbacks=[SaveAt(stop, file)]) == unbroken[:11]
    assert train(14, workers, file) == unbroken[stop:]


@pytest.mark.parametrize("stop", [2, 4, 7])
def test_a_finished_run_goes_on_where_it_ended(tmp_path: Path, unbroken: list, stop: int) -> None:
    file = tmp_path / "saved.ckpt"
    train(stop, callbacks=[SaveAtEnd(file)])
    assert train(14, 0, file) == unbroken[stop:]


def test_a_class_on_both_sides_is_refused_by_name() -> None:
    split = Split(TINY.classes, TINY.train, numbered([0, 3]))
    with pytest.raises(UserError, match="class 'd' in training and in test"):
        module(split)


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(UserError, match="no test images"):
        module(Split(TINY.classes, TINY.train, numbered([])))


def test_an_unknown_protocol_and_impossible_channels_are_refused() -> None:
    with pytest.raises(UserError, match="protocol=papers"):
        module(protocol="papers")
    with pytest.raises(UserError, match="channels=2"):
        module(channels=2).train_dataloader()
    with pytest.raises(UserError, match="at least 4 training classes, not 3"):
        module(protocol="holdout")


def files(folder: Path, count: int = 6) -> Split:
    for i in range(count):
        Image.fromarray(np.full((20, 30, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    paths = [folder / f"{i}.png" for i in range(count)]
    train = Samples(paths[:4], np.array([0, 0, 1, 1]), [p.name for p in paths[:4]])
    return Split(["0", "1", "2"], train, Samples(paths[4:], np.array([2, 2]), [p.name for p in paths[4:]]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "5.png is missing"),
        (b"", "5.png is empty or not"),
        (b"<html>", "5.png is empty or not an image"),
    ],
)
def test_a_broken_file_is_found_before_training(tmp_path: Path, content: bytes | None, said: str) -> None:
    split = files(tmp_path)
    (tmp_path / "5.png").unlink()
    if content is not None:
        (tmp_path / "5.png").write_bytes(content)
    with pytest.raises(UserError, match=said):
        module(split)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_cut_short_is_named_in_one_sentence(tmp_path: Path, workers: int) -> None:
    split = files(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "1.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:4000])
    data = module(split, P=2, num_workers=workers)
    with pytest.raises(UserError) as caught:
        list(data.train_dataloader())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / '1.png'} cannot be read as an image")


def test_workers_are_none_for_images_in_memory_and_some_for_files(tmp_path: Path) -> None:
    assert module().train_dataloader().num_workers == 0
    assert module(files(tmp_path), P=2).train_dataloader().num_workers > 0
    assert module(num_workers=1).val_dataloader().num_workers == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_several_sizes_are_refused_in_one_sentence(tmp_path: Path, workers: int) -> None:
    split = files(tmp_path)
    Image.new("RGB", (31, 20)).save(tmp_path / "2.png")
    with pytest.raises(UserError, match=r"must be of one size, but there are 30×20 and 31×20 pixels: end"):
        list(module(split, P=2, num_workers=workers).train_dataloader())


def test_a_dataset_that_may_not_be_read() -> None:
    def locked() -> Split:
        raise PermissionError(errno.EACCES, "Permission denied", "images")

    with pytest.raises(UserError, match=r"^images cannot be used \(permission denied\)"):
        module(locked)
