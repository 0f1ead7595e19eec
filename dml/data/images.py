"""Images and labels as tensors, one at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from dml.data.split import Samples
from dml.errors import UserError

MODES = {1: "L", 3: "RGB"}


class Draw(NamedTuple):
    """One image of a training batch: which one, and the seed of its augmentation."""

    image: int
    seed: int


class ImageDataset(Dataset[dict[str, Any]]):
    """Labelled images as float32 tensors in [0, 1].

    An item is `{"image": (C, H, W), "label": int, "index": int}`; index is the position in `samples`. Asked
    for a `Draw` instead of a position, the image is augmented from the draw's seed alone, the same in any
    process, worker or resumed run. Transforms draw from torch's random numbers, which go on afterwards as if
    untouched.

    Args:
        samples: files, or uint8 images in memory.
        transform: from the PIL image of a file, or the uint8 tensor (C, H, W) of an image in memory, to an
            image of either kind; None leaves it as it is. Mean and standard deviation are the model's.
        channels: 1 (grey) or 3 (RGB); grey images become RGB, and files the other way round too.

    Raises:
        UserError: `channels` is neither, or is 1 for colour images in memory; on access, a file that cannot
            be read.
    """

    def __init__(
        self, samples: Samples, transform: Callable[[Any], Any] | None = None, channels: int = 3
    ) -> None:
        in_memory = not isinstance(samples.images, (list, tuple))
        if channels not in MODES or (in_memory and channels == 1 and samples.images.ndim == 4):  # type: ignore[union-attr]
            raise UserError(f"dataset.channels={channels} does not fit: 3 is RGB, 1 is for grey images.")
        self.samples, self.transform, self.channels = samples, transform, channels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> dict[str, Any]:
        if isinstance(key, Draw):
            with seeded(key.seed):
                return self[key.image]
        image = self._image(self.samples.images[key])
        if self.transform is not None:
            image = self.transform(image)
        return {"image": to_float(image), "label": int(self.samples.labels[key]), "index": key}

    def _image(self, source: Any) -> Image.Image | Tensor:
        if isinstance(source, Path):
            return read_image(source, self.channels)
        image = torch.from_numpy(source)
        return image.expand(self.channels, -1, -1) if image.ndim == 2 else image.permute(2, 0, 1)


def read_image(file: Path, channels: int) -> Image.Image:
    """The decoded image of a file, in RGB (3 channels) or grey (1).

    Raises:
        UserError: the file is missing, cut short, or no image; names it.
    """
    try:
        with Image.open(file) as image:
            return image.convert(MODES[channels])
    # Decoders raise whatever they please: OSError, SyntaxError, ValueError, struct.error …
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file} cannot be read as an image ({reason}): unpack or download it again."
        ) from error


def to_float(image: Image.Image | Tensor) -> Float[Tensor, "C H W"]:
    """A PIL image or an integer tensor as float32 in [0, 1]; a float tensor as it is."""
    tensor = image if isinstance(image, Tensor) else F.pil_to_tensor(image)
    return F.to_dtype(tensor, torch.float32, scale=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers on the CPU begin at `seed` inside and go on outside as if untouched."""
    state = torch.get_rng_state()
    # Not torch.manual_seed, which seeds the accelerators too.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
