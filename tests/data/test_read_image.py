"""What files hold, and what is made of it."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fake_benchmarks import write_tree
from PIL import Image

from dml.data.checks import check_files
from dml.data.datamodule import EmbeddingDataModule
from dml.data.datasets import folder
from dml.data.read_image import read_image
from dml.data.sampler import PKBatchSampler
from dml.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (64, 48, 3)).astype(np.uint8)


def read(file: Path, channels: int) -> np.ndarray:
    return np.array(read_image(file, channels))


def saved(image: Image.Image, file: Path, **options: object) -> np.ndarray:
    image.save(file, **options)  # type: ignore[arg-type]
    return read(file, 3)


@pytest.mark.parametrize(
    ("mode", "colour", "name", "seen"),
    [
        ("RGB", (10, 20, 30), "a.png", (10, 20, 30)),
        ("L", 77, "grey.png", (77, 77, 77)),
        ("1", 1, "bits.png", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "c.tif", (255, 0, 0)),
        ("RGBA", (10, 20, 30, 255), "opaque.png", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "glass.png", (255, 255, 255)),
        ("LA", (10, 255), "grey alpha.png", (10, 10, 10)),
        ("LA", (10, 0), "grey glass.png", (255, 255, 255)),
    ],
)
def test_every_kind_of_pixel_is_seen_as_rgb(
    tmp_path: Path, mode: str, colour: object, name: str, seen: tuple[int, ...]
) -> None:
    image = saved(Image.new(mode, (3, 2), colour), tmp_path / name)  # type: ignore[arg-type]
    assert (image.shape, image.dtype) == ((2, 3, 3), np.uint8)
    assert (image == seen).all()


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    image = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), tmp_path / "c.jpg", quality=95)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() < 12


def test_a_palette_is_looked_up_also_with_a_transparent_colour(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([200, 0, 0, 0, 100, 0])
    assert saved(palette, tmp_path / "p.png").tolist() == [[[200, 0, 0], [0, 100, 0]]]
    image = saved(palette, tmp_path / "t.png", transparency=1)
    assert image.tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    for name in ("grey.png", "grey.tif"):
        assert saved(Image.fromarray(grey), tmp_path / name)[0, :, 0].tolist() == [0, 1, 128, 255]
        assert read(tmp_path / name, 1).tolist() == [[0, 1, 128, 255]]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_sixteen_bits_of_colour_are_scaled(tmp_path: Path) -> None:
    """One pixel, written by hand: PIL writes no such file."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", 10 * 257, 128 * 257, 65535)))
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    assert read(tmp_path / "c.png", 3).tolist() == [[[10, 128, 255]]]


def test_of_a_moving_image_the_first_frame_is_seen(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    image = saved(frames[0], tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (image == (255, 0, 0)).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_exif_turns_an_image_upright(tmp_path: Path, name: str) -> None:
    """Orientation 6: what is the top when upright lies on the left side of the file."""
    lying = np.zeros((16, 32, 3), np.uint8)
    lying[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    image = saved(Image.fromarray(lying), tmp_path / name, exif=exif)
    assert image.shape == (32, 16, 3)
    assert image[:12].min() > 240
    assert image[20:].max() < 15


def test_the_content_says_what_a_file_is_not_its_name(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert (read(tmp_path / "a.jpg", 3) == NOISE).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    Image.fromarray(NOISE).save(file)
    file.write_bytes(file.read_bytes()[:-700])
    check_files([file])  # its header is whole
    with pytest.raises(
        UserError, match=rf"{name} cannot be read as an image \(.*\): unpack or download"
    ) as no:
        read(file, 3)
    assert "\n" not in str(no.value)


def test_shades_of_unknown_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5]], np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UserError, match=r"f.tif cannot be read as an image \(its values are not shades"):
        read(tmp_path / "f.tif", 3)


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (1, 1)])
def test_an_image_one_pixel_wide_is_an_image(tmp_path: Path, size: tuple[int, int]) -> None:
    file = tmp_path / "thin.png"
    assert saved(Image.new("RGB", size), file).shape == (size[1], size[0], 3)
    check_files([file])


def test_a_thread_is_refused_before_training(tmp_path: Path) -> None:
    file = tmp_path / "thread.png"
    Image.new("RGB", (1, 5000)).save(file)
    with pytest.raises(
        UserError, match=r"thread.png cannot be read as an image \(1×5000 pixels, thinner than"
    ):
        check_files([file])
    with pytest.raises(UserError, match="thinner than 1:256"):
        read(file, 3)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda file: file.touch(), "is empty or not an image that can be read"),
        (lambda file: file.symlink_to("nowhere.png"), "is missing or a broken link"),
        (lambda file: file.write_text("<html>"), "is empty or not an image that can be read"),
    ],
)
def test_what_is_no_image_is_found_by_its_header(tmp_path: Path, prepare, said: str) -> None:  # type: ignore[no-untyped-def]
    prepare(tmp_path / "x.png")
    with pytest.raises(UserError, match=rf"x.png {said}: unpack or download it again, or leave it out\.$"):
        check_files([tmp_path / "x.png"])


def test_a_locked_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(NOISE).save(tmp_path / "x.png")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UserError, match=r"x.png may not be read \(permission denied\)"):
        check_files([tmp_path / "x.png"])


def test_odd_names_train(tmp_path: Path) -> None:
    odd = ["b c", "k=v", "x,y", "naïve Ω", "a'b"]
    root = write_tree(tmp_path / "my = images, 2", dict.fromkeys(odd, 3))
    for number, file in enumerate(sorted(root.glob("*/*.png"))):
        file.rename(file.with_name(f"an image, no={number} ü.png"))
    sampler = lambda labels, **k: PKBatchSampler(labels, 2, 3, **k)  # noqa: E731
    data = EmbeddingDataModule(lambda: folder.load(root), sampler, num_workers=0)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (6, 3, 8, 8)
