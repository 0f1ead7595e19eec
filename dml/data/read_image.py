"""Image files as 8-bit RGB or grey, whatever they are inside."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dml.errors import UserError

MODES = {1: "L", 3: "RGB"}
WITH_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}
# Longer side over shorter; a resize of the shorter side would make a thinner image very long.
THINNEST = 256
WIDE = 65_535
PROBLEMS: dict[type[Exception], str] = {
    FileNotFoundError: "is missing or a broken link",
    PermissionError: "may not be read (permission denied)",
    UnidentifiedImageError: "is empty or not an image that can be read",
}


def read_image(file: Path, channels: int) -> Image.Image:
    """The decoded image of a file, in RGB (3 channels) or grey (1).

    As a person sees it: turned upright by its EXIF orientation (the readers of the papers left such images
    lying), transparent parts on white, 16 bits a channel scaled to 8, CMYK and palettes in their colours, and
    of a moving image the first frame. The content decides what kind of file it is, not the extension.

    Raises:
        UserError: from `opened`; the file is cut short, or has values that are no shades of grey.
    """
    with opened(file) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _in_mode(image, MODES[channels])


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """An image file of which the header has been read.

    Raises:
        UserError: the file is missing, locked, no image, thinner than 1:256, or what is done inside fails; names it.
    """
    try:
        with Image.open(file) as image:
            width, height = image.size
            if max(width, height) > THINNEST * min(width, height):
                raise ValueError(f"{width}×{height} pixels, thinner than 1:{THINNEST}")
            yield image
    except MemoryError:  # not the image's fault
        raise
    # Decoders raise many kinds of errors: OSError, SyntaxError, ValueError, struct.error …
    except Exception as error:
        problem = PROBLEMS.get(type(error), f"cannot be read as an image ({' '.join(str(error).split())})")
        raise UserError(f"{file} {problem}: unpack or download it again, or leave it out.") from error


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _eight_bits(image)
    elif image.mode in WITH_ALPHA or "transparency" in image.info:
        colours = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(colours, mask=colours.getchannel("A"))
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits in 8; PIL's own conversion clips all but the darkest shades to white."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > WIDE:
        raise ValueError("its values are not shades of 8 or 16 bits")
    return Image.fromarray(np.round(values * (255 / WIDE)).astype(np.uint8))
