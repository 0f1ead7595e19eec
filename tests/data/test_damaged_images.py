"""Images that are damaged, too large, unreadable in part, or no files at all."""

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
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
from dml.data.split import fingerprint
from dml.errors import Note, UserError

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8))


def encoded(kind: str, image: Image.Image = PHOTO, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def zeros(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes(len(content) - half)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def marked(content: bytes) -> bytes:
    return content[:-2] + b"\xff\xd9"


def sized(content: bytes) -> bytes:
    """A WebP file whose sizes fit what is left of it."""
    content = content[: len(content) // 2 * 2]
    return (
        b"RIFF"
        + struct.pack("<I", len(content) - 8)
        + content[8:16]
        + struct.pack("<I", len(content) - 20)
        + content[20:]
    )


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], dict[str, object]]] = {
    **{
        f"JPEG{' '.join(options)}, {damage}": ("JPEG", change, options)
        for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 95})
        for damage, change in {
            "zeros": zeros,
            "zeros with an end mark": lambda c: marked(zeros(c)),
            "cut": cut,
            "cut with an end mark": lambda c: cut(c) + b"\xff\xd9",
            "last twentieth cut with an end mark": lambda c: c[: -len(c) // 20] + b"\xff\xd9",
            "no end mark": lambda c: c[:-2],
        }.items()
    },
    "WebP, cut": ("WEBP", cut, {}),
    "WebP, cut and sized": ("WEBP", lambda c: sized(cut(c)), {}),
    "WebP without loss, cut and sized": ("WEBP", lambda c: sized(cut(c)), {"lossless": True}),
    "PNG, zeros": ("PNG", zeros, {}),
    "PNG, cut": ("PNG", cut, {}),
    "PNG, cut with an end mark": ("PNG", lambda c: cut(c) + b"\0\0\0\0IEND\xaeB`\x82", {}),
    "PNG, a bit": ("PNG", lambda c: c[:5000] + bytes([c[5000] ^ 16]) + c[5001:], {}),
    "GIF, zeros": ("GIF", zeros, {}),
    "GIF, cut with an end mark": ("GIF", lambda c: cut(c) + b"\0;", {}),
    "BMP, cut": ("BMP", cut, {}),
    "PPM, cut": ("PPM", cut, {}),
    "TIFF, cut": ("TIFF", cut, {}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_a_decoder_reports_as_damage_is_an_error(tmp_path: Path, name: str) -> None:
    kind, change, options = DAMAGES[name]
    file = tmp_path / "photo.jpg"
    file.write_bytes(encoded(kind, **options))
    check_files([file], decode=True)
    file.write_bytes(change(encoded(kind, **options)))
    for look in (lambda: read_image(file, 3), lambda: check_files([file], decode=True)):
        with pytest.raises(UserError, match=r"photo.jpg .*: unpack or download") as no:
            look()
        assert "\n" not in str(no.value)


def test_what_comes_after_an_image_is_no_damage(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF"):
        (tmp_path / "a").write_bytes(encoded(kind) + b"more")
        assert read_image(tmp_path / "a", 3).size == (80, 60)


def with_chunk(content: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content[:33] + chunk + content[33:]


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"\0",
        b"rubbish",
        b"Exif\0\0",
        b"MM\0*",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\x08\0\0\0\1\0" + b"\xff" * 12,
    ],
)
def test_metadata_that_cannot_be_read_counts_as_none(tmp_path: Path, exif: bytes) -> None:
    (tmp_path / "a.png").write_bytes(with_chunk(encoded("PNG"), b"eXIf", exif))
    PHOTO.save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    PHOTO.save(tmp_path / "a.webp", exif=exif, lossless=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("a.png", "a.jpg", "a.webp"):
            check_files([tmp_path / name], decode=True)
            assert read_image(tmp_path / name, 3).size == (80, 60)
    assert (np.array(read_image(tmp_path / "a.png", 3)) == np.array(PHOTO)).all()


def claimed(kind: str, width: int, height: int) -> bytes:
    """40×60 pixels of data under the header of a larger image."""
    content = bytearray(encoded(kind, PHOTO.resize((40, 60))))
    if kind == "PNG":
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", width, height)
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    elif kind == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
    else:
        return bytes(content).replace(b"40 60", f"{width} {height}".encode())
    return bytes(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "PPM"])
@pytest.mark.parametrize("side", [12_000, 30_000])
def test_a_header_that_claims_more_than_the_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, side: int
) -> None:
    (tmp_path / "huge.png").write_bytes(claimed(kind, side, side))
    monkeypatch.setattr(Image.Image, "load", None)  # refused before anything is made for the pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        with pytest.raises(UserError, match=r"huge.png cannot be read as an image \(.*pixel.*\): unpack"):
            check_files([tmp_path / "huge.png"])


def test_what_pillow_warns_of_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files:
        PHOTO.save(file)
    files[1].write_text("no image")
    with pytest.warns(Note) as notes, pytest.raises(UserError, match=r"b.png"):
        check_files(files)
    [note] = [str(note.message) for note in notes]
    assert note.startswith(f"'{files[0]}' (and 1 more): Image size (4800 pixels) exceeds limit")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError("out of memory error when reading image file"),
        OSError(24, "Too many open files"),
    ],
)
def test_a_lack_of_memory_is_not_blamed_on_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(_: object) -> None:
        raise error

    split = folder.load(write_tree(tmp_path, dict.fromkeys("abcd", 3)))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    skipping = EmbeddingDataModule(split, on_bad_image="skip")
    for look in (lambda: read_image(split.train.images[0], 3), skipping.setup):
        with pytest.raises(UserError, match=r"^Memory or open files ran out while .*png was read: lower"):
            look()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file: file.symlink_to(file.name), "Too many levels of symbolic links"),
        (lambda file: file.symlink_to("gone"), "is missing or a broken link"),
        (lambda file: file.mkdir(), "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "not a regular file"),
    ],
)
def test_what_is_no_file_is_named_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "x.png")
    with pytest.raises(UserError, match=rf"x.png .*{said}.*: unpack"):
        check_files([tmp_path / "x.png"])


def test_bad_images_are_skipped_when_asked_for(tmp_path: Path) -> None:
    root = write_tree(tmp_path, dict.fromkeys("abcd", 4))
    whole = folder.load(root)
    (root / "a" / "0.png").write_text("no image")
    (root / "c" / "3.png").write_bytes(cut(encoded("PNG")))
    sampler = lambda labels, **k: PKBatchSampler(labels, 2, 3, **k)  # noqa: E731
    split = folder.load(root)
    with pytest.raises(UserError, match=r"a/0.png is empty"):
        EmbeddingDataModule(split, sampler).setup()
    data = EmbeddingDataModule(split, sampler, num_workers=0, on_bad_image="skip")
    with pytest.warns(Note, match=r"^Images that cannot be decoded are left out, 2: a/0.png, c/3.png\.$"):
        data.setup()
    data.setup("fit")
    assert (len(data.train_set), len(data.loaded_split.query)) == (7, 7)
    assert data.skipped_figures() == {"images_skipped": 2, "skipped_images": ["a/0.png", "c/3.png"]}
    (root / "a" / "0.png").unlink()
    (root / "c" / "3.png").unlink()
    assert fingerprint(data.loaded_split) == fingerprint(folder.load(root)) != fingerprint(whole)
    assert sum(len(batch["label"]) for batch in data.test_dataloader()) == 7
    assert EmbeddingDataModule(whole).skipped_figures() == {}


def test_processes_that_skip_different_images_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that one of them reads badly."""
    data = EmbeddingDataModule(
        folder.load(write_tree(tmp_path, dict.fromkeys("abcd", 3))), on_bad_image="skip"
    )
    data.setup()
    monkeypatch.setattr("dml.data.datamodule.gather_objects", lambda skipped: [skipped, ["a/0.png"]])
    with pytest.raises(UserError, match="processes of this run skip different images"):
        data.setup("fit")
