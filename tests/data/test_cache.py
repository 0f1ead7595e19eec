"""The cache: the same images as without it, made once, never trusted when it has changed."""

import os
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from dml.data import dataset as images
from dml.data.cache import cached
from dml.data.datamodule import EmbeddingDataModule
from dml.data.dataset import ImageDataset
from dml.data.loader import SampleKey
from dml.data.protocol import subset
from dml.data.sampler import PKBatchSampler
from dml.data.split import Samples, Split
from dml.errors import UserError

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
    return Samples(files, np.repeat([0, 1, 2, 3], 2), [file.name for file in files])


def kept(samples: Samples, folder: Path, side: int = 16) -> ImageDataset:
    return cached(ImageDataset(samples, CROP, resize=v2.Resize(side)), folder, quiet=True)


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
    with_it = cached(without, tmp_path / "cache", quiet=True)
    for index in range(len(samples)):
        for key in (SampleKey(index, 5), SampleKey(index, 6)):
            one, other = without[key], with_it[key]
            assert torch.equal(one["image"], other["image"])
            assert (one["label"], one["index"]) == (other["label"], other["index"])


def test_a_later_run_finds_the_file(samples: Samples, tmp_path: Path, decoded: list[Path]) -> None:
    kept(samples, tmp_path / "cache")
    kept(samples, tmp_path / "cache")[SampleKey(2, 1)]
    assert sorted(decoded) == sorted(samples.images)
    kept(samples, tmp_path / "cache", side=17)
    assert len(decoded) == 16
    assert not list((tmp_path / "cache").glob("*.part"))


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, change, Path.unlink])
@pytest.mark.parametrize("kind", ["images", "json"])
def test_a_cache_that_is_not_as_it_was_written_is_made_anew(
    samples: Samples, tmp_path: Path, decoded: list[Path], harm: Any, kind: str
) -> None:
    expected = [kept(samples, tmp_path / "cache")[SampleKey(i, 1)]["image"] for i in range(8)]
    decoded.clear()
    (file,) = (tmp_path / "cache").glob(f"*.{kind}")
    harm(file)
    again = kept(samples, tmp_path / "cache")
    assert len(decoded) == 8
    assert all(torch.equal(again[SampleKey(i, 1)]["image"], image) for i, image in enumerate(expected))


def test_a_changed_image_is_decoded_again(samples: Samples, tmp_path: Path) -> None:
    before = kept(samples, tmp_path / "cache")[3]["image"]
    Image.new("RGB", (20, 20), (1, 2, 3)).save(samples.images[3])
    after = kept(samples, tmp_path / "cache")[3]["image"]
    assert not torch.equal(before, after)
    assert after[0].unique().tolist() == [1]


def test_a_broken_image_leaves_no_cache(samples: Samples, tmp_path: Path) -> None:
    Path(samples.images[5]).write_bytes(Path(samples.images[5]).read_bytes()[:-300])
    with pytest.raises(UserError, match=rf"^{samples.images[5]} cannot be read as an image"):
        kept(samples, tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def _make(samples: Samples, folder: Path, noted: Path) -> None:
    read = images.read_image

    def noting(file: Path, channels: int) -> Image.Image:
        with noted.open("a") as stream:
            stream.write(f"{file}\n")
        return read(file, channels)

    images.read_image = noting  # type: ignore[assignment]
    kept(samples, folder)


def test_of_two_processes_one_decodes(samples: Samples, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    processes = [
        get_context("fork").Process(target=_make, args=(samples, tmp_path / "cache", noted)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(noted.read_text().splitlines()) == 8


def test_a_folder_that_may_not_be_written(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write the cache .*: File exists; set data.cache_dir"):
        kept(samples, tmp_path / "file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_one_sentence(samples: Samples, tmp_path: Path) -> None:
    kept(samples, tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.images")
    file.unlink()
    file.with_suffix(".part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device; set data.cache_dir to another folder"):
        kept(samples, tmp_path / "cache")


def test_images_in_memory_stay_as_they_are(tmp_path: Path) -> None:
    dataset = ImageDataset(Samples(np.zeros((2, 4, 4), np.uint8), np.array([0, 1]), ["a", "b"]))
    assert cached(dataset, tmp_path) is dataset


@pytest.mark.parametrize("kind", ["ram", "disk", "tape"])
def test_a_word_of_before_is_refused_with_what_to_write_now(kind: str) -> None:
    with pytest.raises(UserError, match=rf"data.cache={kind} must be true or false: write data.cache=true"):
        data(Split([], *[Samples([], np.array([]), [])] * 2), cache=kind)


def data(split: Split, **options: Any) -> EmbeddingDataModule:
    sampler = partial(PKBatchSampler, classes_per_batch=2, images_per_class=2, steps_per_epoch=3)
    return EmbeddingDataModule(split, sampler, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_and_without(
    samples: Samples, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def batches(cache: bool) -> list[torch.Tensor]:
        train, query = subset(samples, np.arange(2, len(samples))), subset(samples, np.arange(2))
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
    assert not capsys.readouterr().out
    assert all(torch.equal(a, b) for a, b in zip(without, batches(True), strict=True))
    assert "data.cache: 6 images in " in capsys.readouterr().out
