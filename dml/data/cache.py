"""A cache of decoded images: decoding can take longer than a small network's step."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import PIL
import torchvision
from PIL import Image

from dml.errors import UserError, note


class ImageCache:
    """Keeps decoded and resized images as uncompressed PNM files; a later run, worker or process finds them.

    A file is found by the image's path, size and modification time. It is given the same time: where it has another, by
    two seconds or more, it was changed and is not used.

    Args:
        folder: of the cache's files; may be deleted at any time.
        recipe: names what is done to an image; each recipe, PIL and torchvision version has files of its own.
    """

    def __init__(self, folder: Path, recipe: str) -> None:
        self.recipe = f"{recipe} {PIL.__version__} {torchvision.__version__}"
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"Cannot write the cache {folder}: {error.strerror}; set data.cache_dir to another folder, or "
                "data.cache=false."
            ) from error

    def get(self, file: Path, decode: Callable[[], Image.Image]) -> Image.Image:
        """The kept image of a file; else what `decode` returns, which is then kept.

        If the disk is full, a note says so, and images are decoded each time.
        """
        try:
            state = file.stat()
        except OSError:
            return decode()  # which says what is wrong with the file
        key = f"{self.recipe}\0{file.absolute()}\0{state.st_size}\0{state.st_mtime_ns}"
        kept = self.folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()}.ppm"
        try:
            if abs(kept.stat().st_mtime - state.st_mtime) < 2:
                with Image.open(kept, formats=["PPM"]) as found:
                    found.load()
                    return found
        except OSError:  # not there, or cut short
            pass
        image = decode()
        try:
            self._keep(image, kept, state)
        except OSError as error:
            note(
                f"Cannot write the cache {self.folder}: {error.strerror or error}; images are decoded each time. Set "
                "data.cache_dir to another folder."
            )
        return image

    def _keep(self, image: Image.Image, kept: Path, state: os.stat_result) -> None:
        """Write the file, whole or not at all."""
        part = kept.with_suffix(f".{uuid4().hex}")
        try:
            image.save(part, "PPM")
            os.utime(part, ns=(state.st_mtime_ns, state.st_mtime_ns))
            part.replace(kept)
        finally:
            part.unlink(missing_ok=True)
