"""Every format and mode that docs/datasets.md names decodes to its colours; every other format is refused."""

import struct
import subprocess
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dml.data.checks import check_files
from dml.data.read_image import FORMATS, read_image
from dml.errors import UserError

WHITE = (255, 255, 255)
# Left and right half in a mode's own values, options of `save`, and the halves as a person sees them.
RED, GREEN, GREY, LIGHT = (200, 0, 0), (0, 100, 0), (77, 77, 77), (200, 200, 200)
CASES: dict[str, tuple[str, Any, Any, dict[str, Any], Any, Any]] = {
    "bits": ("1", 0, 1, {}, (0, 0, 0), WHITE),
    "bits, one transparent": ("1", 0, 1, {"transparency": 0}, WHITE, WHITE),
    "grey": ("L", 77, 200, {}, GREY, LIGHT),
    "grey, one transparent": ("L", 77, 200, {"transparency": 200}, GREY, WHITE),
    "grey with alpha": ("LA", (77, 255), (200, 0), {}, GREY, WHITE),
    "palette": ("P", 0, 1, {}, RED, GREEN),
    "palette, one transparent": ("P", 0, 1, {"transparency": 1}, RED, WHITE),
    "palette with alpha": ("P", 0, 1, {"transparency": bytes([255, 128])}, RED, (127, 177, 127)),
    "RGB": ("RGB", RED, GREEN, {}, RED, GREEN),
    "RGB, one transparent": ("RGB", RED, GREEN, {"transparency": GREEN}, RED, WHITE),
    "RGBA": ("RGBA", (*RED, 255), (*GREEN, 128), {}, RED, (127, 177, 127)),
    "CMYK": ("CMYK", (0, 255, 255, 0), (255, 0, 0, 0), {}, (255, 0, 0), (0, 255, 255)),
    "YCbCr": ("YCbCr", (76, 85, 255), (29, 255, 107), {}, (255, 0, 0), (0, 0, 255)),
    "16 bits": ("I;16", 77 * 257, 200 * 257, {}, GREY, LIGHT),
    "16 bits, one transparent": ("I;16", 77 * 257, 200 * 257, {"transparency": 200 * 257}, GREY, WHITE),
    "32 bits": ("I", 77 * 257, 200 * 257, {}, GREY, LIGHT),
}
HELD = {
    "bmp": ["bits", "grey", "palette", "RGB"],
    "gif": ["bits", "grey", "grey, one transparent", "palette", "palette, one transparent", "RGB"],
    "jpg": ["bits", "grey", "RGB", "CMYK", "YCbCr"],
    "pbm": ["bits"],
    "pgm": ["grey", "16 bits", "32 bits"],
    "png": [name for name in CASES if name not in ("CMYK", "YCbCr", "32 bits")],
    "ppm": ["RGB"],
    "tif": [name for name in CASES if "one transparent" not in name and name != "palette with alpha"],
    "webp": ["bits", "grey", "grey with alpha", "palette", "RGB", "RGBA", "CMYK", "YCbCr"],
}
LOSSY = {"jpg": 6, "webp": 8}


def halves(mode: str, left: Any, right: Any) -> Image.Image:
    if mode in ("I;16", "I"):
        values = np.where(np.arange(32) < 16, left, right) + np.zeros((16, 1), int)
        return Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
    image = Image.new(mode, (32, 16), left)
    if mode == "P":
        image.putpalette([*RED, *GREEN])
    image.paste(right, (16, 0, 32, 16))
    return image


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in HELD for name in HELD[kind]])
def test_each_mode_of_each_format(tmp_path: Path, kind: str, name: str) -> None:
    mode, left, right, options, seen_left, seen_right = CASES[name]
    file = tmp_path / f"a.{kind}"
    halves(mode, left, right).save(file, **options)
    check_files([file], decode=True)
    image = np.array(read_image(file, 3)).astype(int)
    assert np.abs(image[8, 8] - seen_left).max() <= LOSSY.get(kind, 1)
    assert np.abs(image[8, 24] - seen_right).max() <= LOSSY.get(kind, 1)
    grey = np.array(Image.fromarray(image.astype(np.uint8)).convert("L")).astype(int)
    assert np.abs(np.array(read_image(file, 1)) - grey).max() <= 1


def png(depth: int, colour: int, row: bytes, width: int, transparent: bytes) -> bytes:
    """One row of pixels, written by hand: PIL writes no such file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    data = chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + data


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (png(2, 0, b"\x1b", 4, struct.pack(">H", 2)), [0, 85, 255, 255]),
        (png(4, 0, b"\x0f\x50", 3, struct.pack(">H", 5)), [0, 255, 255]),
        (png(4, 0, b"\x0f\x50", 3, struct.pack(">H", 0)), [255, 255, 85]),
        (
            png(16, 2, struct.pack(">6H", 0, 0, 2560, 2560, 0, 0), 2, struct.pack(">3H", 0, 0, 2560)),
            [255, 10],
        ),
    ],
)
def test_the_transparent_shade_of_other_depths(tmp_path: Path, content: bytes, seen: list[int]) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert np.array(read_image(tmp_path / "a.png", 3))[0, :, 0].tolist() == seen


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_of_every_subsampling_and_size(tmp_path: Path, mode: str, subsampling: int) -> None:
    for size in [(1, 1), (7, 16), (17, 9)]:
        for progressive in (True, False):
            image = Image.new(mode, size)
            image.save(tmp_path / "a.jpg", subsampling=subsampling, progressive=progressive)
            assert read_image(tmp_path / "a.jpg", 3).size == size


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_values_that_are_no_shades_are_refused_before_training(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a.tif cannot be read as an image \(its values are not shades"):
        check_files([tmp_path / "a.tif"])


def other_formats() -> dict[str, bytes]:
    """A file of each format that Pillow writes and the docs do not name."""
    Image.init()
    files = {}
    for name in sorted(Image.SAVE.keys() - {*FORMATS, "MPO"}):
        for mode in ("RGB", "1", "P"):
            stream = BytesIO()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # formats that Pillow will drop
                    Image.new(mode, (64, 64)).save(stream, name)
            except (OSError, ValueError, KeyError):
                continue
            files[name] = stream.getvalue()
            break
    return files


OTHERS = other_formats()


@pytest.mark.parametrize(("name", "content"), OTHERS.items(), ids=OTHERS)
def test_every_other_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    """For PostScript Pillow starts Ghostscript: a data file would run a program."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    for file in (tmp_path / "a.jpg", tmp_path / f"a.{name.lower()}"):
        file.write_bytes(content)
        for check in (lambda f: check_files([f]), lambda f: read_image(f, 3)):
            with pytest.raises(UserError, match=rf"{file} is empty or not an image that can be read") as no:
                check(file)
            assert "\n" not in str(no.value)
