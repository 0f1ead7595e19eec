"""Small images for a report."""

import base64
from io import BytesIO
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from dml.data.datamodule import EmbeddingDataModule

SMALL, LARGE = 56, 112  # pixels of a thumbnail in the map and in a list


def thumbnails(data: EmbeddingDataModule, sizes: dict[str, int]) -> dict[str, str]:
    """Test images as the network sees them, by name; `sizes` gives the pixels of each one's longer side.

    Raises:
        UserError: an image cannot be read.
    """
    images: Any = data.test_dataloader().dataset
    place = {name: i for i, name in enumerate(data.evaluation_set("test").samples.names)}
    return {name: thumbnail(images[place[name]]["image"], size) for name, size in sizes.items()}


def thumbnail(image_CHW: Tensor, size: int) -> str:
    """A smaller image in WebP and base64; pixels of a tiny one become squares."""
    image = to_pil_image(image_CHW)
    if larger := size // max(image.size):
        image = image.resize((image.width * larger, image.height * larger), Image.Resampling.NEAREST)
    image.thumbnail((size, size))
    with BytesIO() as stream:
        image.save(stream, "WEBP", quality=70 if size == LARGE else 60, method=2)
        return base64.b64encode(stream.getvalue()).decode()
