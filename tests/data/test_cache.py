"""The cache: the same images as without it, made once, never trusted when it has changed."""

import os
import pickle
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from dml.data import cache, room
from dml.data import dataset as images
from dml.data.cache import PixelCache
from dml.data.crop import RandomResizedCrop
from dml.data.datamodule import EmbeddingDataModule
from dml.data.dataset import ImageDataset, SampleKey
from dml.data.fill import sizes_of
from dml.data.protocol import subset
from dml.data.sampler import PKBatchSampler
from dml.data.split import Samples, Split
from dml.errors import UserError

SIZES = [(40, 30), (30, 40), (64, 20), (20, 20), (33, 47), (16, 16), (16, 50), (90, 17)]
CROP = v2.Compose([v2.Resize(16), RandomResizedCrop(12, scale=(0.16, 1.0))])
CENTRE = v2.Compose([v2.Resize(16), v2.CenterCrop(12)])


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Eight photographs of noise of various sizes, the fourth lying on its side."""
    rng = np.random.default_rng(0)
    files = [tmp_path / "images" / f"{i}.png" for i in range(len(SIZES))]
    files[0].parent.mkdir()
    for i, (file, (width, height)) in enumerate(zip(files, SIZES, strict=True)):
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 4 else 1
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(file, exif=exif)
    return Samples(files, np.repeat([0, 1, 2, 3], 2), [file.name for file in files])


@pytest.fixture(params=["ram", "disk"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> PixelCache:
    return PixelCache(request.param, tmp_path / "cache")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transform", [None, CROP, CENTRE, RandomResizedCrop(12)], ids=str)
def test_a_draw_is_the_same_to_the_last_bit(
    samples: Samples, kept: PixelCache, transform: object, channels: int
) -> None:
    without = ImageDataset(samples, transform, channels)  # type: ignore[arg-type]
    with_it = kept.of(without, quiet=True)
    for index in range(len(samples)):
        for key in (SampleKey(index, 5), SampleKey(index, 6)):
            one, other = without[key], with_it[key]
            assert torch.equal(one["image"], other["image"])
            assert (one["label"], one["index"]) == (other["label"], other["index"])


def test_sizes_are_known_before_anything_is_decoded(samples: Samples) -> None:
    """Shorter side 16: 40×30 becomes 21×16, and so on; what EXIF turns keeps its number of bytes."""
    longer = [21, 21, 51, 16, 22, 16, 50, 84]
    assert sizes_of(ImageDataset(samples, CROP)).tolist() == [3 * 16 * side for side in longer]
    assert sizes_of(ImageDataset(samples, CENTRE, 1)).tolist() == [144] * 8
    assert sizes_of(ImageDataset(samples)).tolist() == [3 * w * h for w, h in SIZES]


def test_images_are_decoded_once_and_never_again(
    samples: Samples, kept: PixelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ImageDataset(samples, CROP)
    first = kept.of(dataset, quiet=True)
    monkeypatch.setattr(images, "read_image", None)
    assert torch.equal(
        first[SampleKey(2, 1)]["image"], kept.of(dataset, quiet=True)[SampleKey(2, 1)]["image"]
    )


def on_disk(samples: Samples, folder: Path, transform: object = CROP) -> ImageDataset:
    return PixelCache("disk", folder).of(ImageDataset(samples, transform), quiet=True)  # type: ignore[arg-type]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files decoded so far."""
    read, files = images.read_image, list[Path]()

    def noting(file: Path, channels: int) -> np.ndarray:
        files.append(file)
        return read(file, channels)

    monkeypatch.setattr(images, "read_image", noting)
    return files


def test_a_later_run_finds_the_file(samples: Samples, tmp_path: Path, decoded: list[Path]) -> None:
    on_disk(samples, tmp_path / "cache")
    on_disk(samples, tmp_path / "cache")
    assert sorted(decoded) == sorted(samples.images)
    on_disk(samples, tmp_path / "cache", CENTRE)
    assert len(decoded) == 16
    assert not list((tmp_path / "cache").glob(".*.part"))


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, change, Path.unlink])
@pytest.mark.parametrize("name", ["pixels", "index.json"])
def test_a_cache_that_is_not_as_it_was_written_is_made_anew(
    samples: Samples, tmp_path: Path, decoded: list[Path], harm, name: str
) -> None:  # type: ignore[no-untyped-def]
    expected = [on_disk(samples, tmp_path / "cache")[SampleKey(i, 1)]["image"] for i in range(8)]
    (file,) = (tmp_path / "cache").glob(f"*/{name}")
    harm(file)
    again = on_disk(samples, tmp_path / "cache")
    assert len(decoded) == 16
    assert all(torch.equal(again[SampleKey(i, 1)]["image"], image) for i, image in enumerate(expected))


def test_a_changed_image_is_decoded_again(samples: Samples, tmp_path: Path) -> None:
    before = on_disk(samples, tmp_path / "cache")[3]["image"]
    Image.new("RGB", (20, 20), (1, 2, 3)).save(samples.images[3])
    after = on_disk(samples, tmp_path / "cache")[3]["image"]
    assert not torch.equal(before, after)
    assert after[0].unique().tolist() == [1]


def test_an_interrupted_run_leaves_no_cache(samples: Samples, tmp_path: Path) -> None:
    Path(samples.images[5]).write_bytes(Path(samples.images[5]).read_bytes()[:-300])
    with pytest.raises(UserError, match=r"5.png cannot be read as an image"):
        on_disk(samples, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".preparing"]


def test_workers_get_the_memory_and_no_copy_of_it(tmp_path: Path) -> None:
    Image.new("RGB", (600, 600), (9, 8, 7)).save(tmp_path / "large.png")
    large = Samples([tmp_path / "large.png"], np.array([0]), ["large"])
    for kind in ("ram", "disk"):
        pixels = PixelCache(kind, tmp_path / "cache").of(ImageDataset(large), quiet=True).images
        sent = ForkingPickler.dumps(pixels)
        assert len(sent) < 2_000
        arrived = pickle.loads(sent)
        assert arrived[0].shape == (600, 600, 3)
        pixels.flat[:3] = 1, 2, 3
        assert arrived[0][0, 0].tolist() == ([1, 2, 3] if kind == "ram" else [9, 8, 7])


def test_what_it_takes_is_printed_first(
    samples: Samples, kept: PixelCache, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.of(ImageDataset(samples, CENTRE))
    assert capsys.readouterr().out.startswith(f"data.cache={kept.kind}: 8 images take 0.0 MB")


def test_a_later_run_says_what_it_found(
    samples: Samples, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_disk(samples, tmp_path / "cache")
    PixelCache("disk", tmp_path / "cache").of(ImageDataset(samples, CROP))
    said = capsys.readouterr().out
    assert said.startswith("data.cache=disk: 8 images are in ")
    assert said.endswith(" already.\n")


def test_what_does_not_fit_is_refused(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[Path]
) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 4_000)
    monkeypatch.setattr(cache, "free_disk", lambda _: 4_000)
    dataset = ImageDataset(samples, CENTRE)
    with pytest.raises(
        UserError, match=r"needs 0.0 MB and 0.0 MB of shared memory are free: set data.cache=disk"
    ):
        PixelCache("ram", tmp_path).of(dataset, quiet=True)
    with pytest.raises(
        UserError, match=r"where 0.0 MB are free: set data.cache_dir to a folder on a larger disk"
    ):
        on_disk(samples, tmp_path / "new" / "cache")
    monkeypatch.setattr(cache, "free_memory", lambda: 8_000)
    PixelCache("ram", tmp_path).of(dataset, quiet=True)
    with pytest.raises(UserError, match="in 2 processes"):
        PixelCache("ram", tmp_path).of(dataset, processes=2, quiet=True)
    assert len(decoded) == 8


def test_a_folder_that_may_not_be_written(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data.cache_dir=.*file is a file: name a folder"):
        on_disk(samples, tmp_path / "file")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.cache=tape must be ram, disk or null"):
        PixelCache("tape", Path("x"))


def test_images_in_memory_stay_as_they_are(kept: PixelCache) -> None:
    dataset = ImageDataset(Samples(np.zeros((2, 4, 4), np.uint8), np.array([0, 1]), ["a", "b"]))
    assert kept.of(dataset) is dataset


def test_free_memory_is_the_least_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:      5 kB\n")
    for name, text in {
        "memory.max": "9000",
        "memory.current": "7000",
        "memory.stat": "inactive_file 500",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(room, "CGROUP", tmp_path / "none")
    monkeypatch.setattr(room, "SHARED", tmp_path)
    assert room.free_memory() == 5 * 1024
    monkeypatch.setattr(room, "CGROUP", tmp_path)
    assert room.free_memory() == 2500
    (tmp_path / "memory.max").write_text("max")
    assert room.free_memory() == 5 * 1024
    assert room.free_disk(tmp_path / "not" / "there") > 0
    assert (room.readable(31_234_000_000), room.readable(1_500_000)) == ("31.2 GB", "1.5 MB")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_and_without(samples: Samples, tmp_path: Path, workers: int) -> None:
    def batches(kind: str | None) -> list[torch.Tensor]:
        train, query = subset(samples, np.arange(2, len(samples))), subset(samples, np.arange(2))
        split = Split(list("abcde"), train, Samples(query.images, np.array([4, 4]), query.names))
        sampler = partial(PKBatchSampler, classes_per_batch=2, images_per_class=2, steps_per_epoch=3)
        data = EmbeddingDataModule(
            split,
            sampler,
            train_transform=CROP,
            eval_transform=CENTRE,
            num_workers=workers,
            cache=kind,
            cache_dir=tmp_path / "cache",
        )
        loaders = (data.train_dataloader(), data.val_dataloader(), data.train_dataloader())
        return [batch["image"] for loader in loaders for batch in loader]

    without = batches(None)
    for kind in ("ram", "disk"):
        assert all(torch.equal(a, b) for a, b in zip(without, batches(kind), strict=True))
