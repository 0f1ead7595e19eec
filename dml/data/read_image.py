"""Image files as 8-bit RGB or grey, whatever they are inside."""

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from dml.errors import UserError

# Pillow's names of the formats in docs/datasets.md. Of others it would start programs (Ghostscript for PostScript).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MODES = {1: "L", 3: "RGB"}
WITH_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}
# Longer side over shorter; a resize of the shorter side would make a thinner image very long.
THINNEST = 256
# From 90 million pixels on, where Pillow warns, a byte of the file holds at most so many pixels: deflate's best ratio.
LARGE, DENSEST = 89_478_485, 1032
WIDE = 65_535
# Pillow scales these pixels of a PNG to 8 bits, but not the transparent shade that the file names.
SHADES = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}
PROBLEMS: dict[type[Exception], str] = {
    FileNotFoundError: "is missing or a broken link",
    PermissionError: "may not be read (permission denied)",
    UnidentifiedImageError: "is empty or not an image that can be read",
}
SHORT_OF = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}


def read_image(file: Path, channels: int) -> Image.Image:
    """The decoded image of a file, in RGB (3 channels) or grey (1).

    As a person sees it: turned upright by its EXIF orientation (the readers of the papers left such images
    lying), transparent parts on white, 16 bits a channel scaled to 8, CMYK and palettes in their colours, and
    of a moving image the first frame. The content decides what kind of file it is, not the extension. Metadata
    that cannot be read counts as none.

    Raises:
        UserError: from `opened`; the file is damaged as far as its decoder tells, or has values that are no shades.
    """
    with opened(file) as image:
        if image.format in ("JPEG", "MPO"):
            image = _decoded_jpeg(file, image)
        return as_image(image, channels)


def as_image(image: Image.Image, channels: int) -> Image.Image:
    """A PIL image as `read_image` gives that of a file: upright, on white, of 8 bits, in RGB (3 channels) or grey (1).

    The image given is turned, too.

    Raises:
        ValueError: its values are not shades of 8 or 16 bits.
    """
    _scale_transparency(image)
    image.load()
    _turn_upright(image)
    return _in_mode(image, MODES[channels])


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """An image file of which the header has been read.

    Raises:
        UserError: the file is missing, locked, no image, thinner than 1:256, of float or CIELAB values, of far more
            pixels than its bytes can hold, or what is done inside fails; names it. Caused by a MemoryError where the
            machine, not the file, is to blame.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise ValueError("it is not a regular file")
        with Image.open(file, "r", FORMATS) as image:
            _check_header(image, status.st_size)
            yield image
    # Decoders raise many kinds of errors: OSError, SyntaxError, ValueError, struct.error …
    except Exception as error:
        if _is_shortage(error):
            raise UserError(
                f"Memory or open files ran out while {file} was read: lower data.num_workers or data.eval_batch_size."
            ) from MemoryError()
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        problem = PROBLEMS.get(type(error), f"cannot be read as an image ({reason})")
        raise UserError(f"{file} {problem}: unpack or download it again, or leave it out.") from error


def _is_shortage(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) in SHORT_OF
        or str(error).startswith("out of memory")  # Pillow's decoders raise an OSError
    )


def _check_header(image: Image.Image, size: int) -> None:
    width, height = image.size
    if max(width, height) > THINNEST * min(width, height):
        raise ValueError(f"{width}×{height} pixels, thinner than 1:{THINNEST}")
    if width * height > max(LARGE, DENSEST * size):
        raise ValueError(f"{size:,} bytes cannot hold the {width}×{height} pixels that it claims")
    if image.mode in ("F", "LAB"):
        raise ValueError("its values are not shades of 8 or 16 bits")


def _decoded_jpeg(file: Path, image: Image.Image) -> Image.Image:
    """The same pixels as Pillow's, but what libjpeg warns of is a ValueError; Pillow fills the rest with grey."""
    colorspace = {"L": "GRAY", "CMYK": "CMYK"}.get(image.mode, "RGB")
    try:
        pixels = simplejpeg.decode_jpeg(file.read_bytes(), colorspace, strict=True)
    except ValueError as error:
        if str(error).startswith("tj"):  # a limit of TurboJPEG's own, such as unusual subsampling: no damage
            return image
        raise
    if colorspace == "CMYK":
        return image  # Pillow knows which programs store them inverted
    decoded = Image.fromarray(pixels[:, :, 0] if colorspace == "GRAY" else pixels)
    decoded.info = image.info  # EXIF
    return decoded


def _scale_transparency(image: Image.Image) -> None:
    tiles = getattr(image, "tile", None)
    factor = SHADES.get(str(tiles[0][3])) if tiles and image.format == "PNG" else None
    if factor and "transparency" in image.info:
        shade = image.info["transparency"]
        colour = tuple(int(s * factor) for s in np.atleast_1d(shade))
        image.info["transparency"] = colour if image.mode == "RGB" else colour[0]


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # unreadable EXIF raises as many kinds of errors as a decoder
        pass


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;"):
        image = _eight_bits(image)
    elif image.mode in WITH_ALPHA or "transparency" in image.info:
        colours = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(colours, mask=colours.getchannel("A"))
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits in 8; PIL's own conversion clips all but the darkest shades to white."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > WIDE:
        raise ValueError("its values are not shades of 8 or 16 bits")
    shades = np.round(values * (255 / WIDE)).astype(np.uint8)
    shades[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(shades)
