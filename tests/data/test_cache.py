"""The cache: the same images as without it, decoded once, never trusted when it has changed."""

import errno
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from dml.data import dataset as images
from dml.data.datamodule import EmbeddingDataModule
from dml.data.dataset import ImageDataset
from dml.data.sampler import PKBatchSampler, SampleKey
from dml.data.split import Samples, Split
from dml.errors import Note, UserError

SIZES = [(40, 30), (30, 40), (64, 20), (20, 20), (33, 47), (16, 16), (16, 50), (90, 17)]
CROP = v2.Compose([v2.RandomResizedCrop(12, scale=(0.16, 1.0)), v2.RandomHorizontalFlip()])


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Eight photographs of noise of various sizes, the fifth lying on its side."""
    rng = np.random.default_rng(0)
    files = [tmp_path / "images" / f"{i}.png" for i in range(len(SIZES))]
    files[0].parent.mkdir()
    for i, (file, (width, height)) in enumerate(zip(files, SIZES, strict=True)):
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 4 else 1
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(file, exif=exif)
        os.utime(file, (1e9, 1e9))
    return Samples(files, np.repeat([0, 1, 2, 3], 2), [file.name for file in files])


def kept(samples: Samples, folder: Path, side: int = 16) -> ImageDataset:
    return ImageDataset(samples, CROP, resize=v2.Resize(side), cache_dir=folder)


def all_of(dataset: ImageDataset) -> list[torch.Tensor]:
    return [dataset[SampleKey(i, 1)]["image"] for i in range(len(dataset))]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files decoded so far."""
    read, files = images.read_image, list[Path]()

    def noting(file: Path, channels: int) -> Image.Image:
        files.append(file)
        return read(file, channels)

    monkeypatch.setattr(images, "read_image", noting)
    return files


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", [None, v2.Resize(16)], ids=["whole", "resized"])
def test_an_augmented_image_is_the_same_to_the_last_bit(
    samples: Samples, tmp_path: Path, resize: Any, channels: int
) -> None:
    without = ImageDataset(samples, CROP, channels, resize)
    with_it = ImageDataset(samples, CROP, channels, resize, tmp_path / "cache")
    for index in range(len(samples)):
        for key in (SampleKey(index, 5), SampleKey(index, 6), SampleKey(index, 5)):
            one, other = without[key], with_it[key]
            assert torch.equal(one["image"], other["image"])
            assert (one["label"], one["index"]) == (other["label"], other["index"])


def test_a_later_run_finds_the_images(samples: Samples, tmp_path: Path, decoded: list[Path]) -> None:
    for _ in range(2):
        all_of(kept(samples, tmp_path / "cache"))
    assert decoded == samples.images
    all_of(kept(samples, tmp_path / "cache", side=17))
    assert len(decoded) == 16
    assert {file.suffix for file in (tmp_path / "cache").iterdir()} == {".ppm"}


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, change, Path.unlink])
def test_a_file_that_is_not_as_it_was_written_is_made_anew(
    samples: Samples, tmp_path: Path, decoded: list[Path], harm: Any
) -> None:
    expected = all_of(kept(samples, tmp_path / "cache"))
    for file in (tmp_path / "cache").iterdir():
        harm(file)
    decoded.clear()
    for _ in range(2):
        again = all_of(kept(samples, tmp_path / "cache"))
        assert all(torch.equal(*pair) for pair in zip(again, expected, strict=True))
    assert decoded == samples.images


def test_a_file_cut_short_by_a_crash_is_made_anew(samples: Samples, tmp_path: Path) -> None:
    """Its time says nothing."""
    expected = all_of(kept(samples, tmp_path / "cache"))
    for file in (tmp_path / "cache").iterdir():
        state = file.stat()
        cut(file)
        os.utime(file, ns=(state.st_mtime_ns, state.st_mtime_ns))
    again = all_of(kept(samples, tmp_path / "cache"))
    assert all(torch.equal(*pair) for pair in zip(again, expected, strict=True))


def test_a_changed_image_is_decoded_again(samples: Samples, tmp_path: Path) -> None:
    before = kept(samples, tmp_path / "cache")[3]["image"]
    Image.new("RGB", (20, 20), (1, 2, 3)).save(samples.images[3])
    after = kept(samples, tmp_path / "cache")[3]["image"]
    assert not torch.equal(before, after)
    assert after[0].unique().tolist() == [1]


def test_another_folder_of_the_same_names_sizes_and_times_is_another(
    samples: Samples, tmp_path: Path
) -> None:
    for colour in ("red", "blue"):
        file = tmp_path / colour / "0.ppm"
        file.parent.mkdir()
        Image.new("RGB", (20, 20), colour).save(file)
        os.utime(file, (1e9, 1e9))
        image = kept(Samples([file], np.array([0]), ["0.ppm"]), tmp_path / "cache")[0]["image"]
        assert image[0].unique().tolist() == [255 if colour == "red" else 0]


def test_a_broken_image_is_not_kept(samples: Samples, tmp_path: Path) -> None:
    Path(samples.images[5]).write_bytes(Path(samples.images[5]).read_bytes()[:-300])
    with pytest.raises(UserError, match=rf"^{samples.images[5]} cannot be read as an image"):
        kept(samples, tmp_path / "cache")[5]
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_that_may_not_be_written(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write the cache .*: File exists; set data.cache_dir"):
        kept(samples, tmp_path / "file")


def test_on_a_full_disk_images_are_decoded_each_time(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = all_of(kept(samples, tmp_path / "cache"))

    def half(image: Image.Image, file: Path, _: str) -> None:
        file.write_bytes(b"P6")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.warns(
        Note, match=r"Cannot write the cache .*: No space left .*; images are decoded each time"
    ):
        again = all_of(kept(samples, tmp_path / "full"))
    assert all(torch.equal(*pair) for pair in zip(again, expected, strict=True))
    assert not list((tmp_path / "full").iterdir())


def test_images_in_memory_are_not_written(tmp_path: Path) -> None:
    images = Samples(np.zeros((2, 4, 4), np.uint8), np.array([0, 1]), ["a", "b"])
    ImageDataset(images, cache_dir=tmp_path)[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["ram", "disk", "tape"])
def test_a_word_of_before_is_refused_with_what_to_write_now(kind: str) -> None:
    with pytest.raises(UserError, match=rf"data.cache={kind} must be true or false: write data.cache=true"):
        data(Split([], *[Samples([], np.array([]), [])] * 2), cache=kind)


def data(split: Split, **options: Any) -> EmbeddingDataModule:
    sampler = partial(PKBatchSampler, classes_per_batch=2, images_per_class=2, steps_per_epoch=3)
    module = EmbeddingDataModule(split, sampler, **options)
    module.setup()
    return module


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_and_without(samples: Samples, tmp_path: Path, workers: int) -> None:
    def batches(cache: bool) -> list[torch.Tensor]:
        train, query = samples.subset(np.arange(2, len(samples))), samples.subset(np.arange(2))
        split = Split(list("abcde"), train, Samples(query.images, np.array([4, 4]), query.names))
        ours = data(
            split,
            resize=v2.Resize(16),
            train_transform=CROP,
            eval_transform=v2.CenterCrop(12),
            num_workers=workers,
            cache=cache,
            cache_dir=tmp_path / "cache",
        )
        loaders = (ours.train_dataloader(), ours.val_dataloader(), ours.train_dataloader())
        return [batch["image"] for loader in loaders for batch in loader]

    without = batches(False)
    assert all(torch.equal(a, b) for a, b in zip(without, batches(True), strict=True))
    assert len(list((tmp_path / "cache").iterdir())) == 8
