"""What a transform consists of, and which of its steps always do the same."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torchvision.transforms import v2

Transform = Callable[[Any], Any]
# What these do to an image is the same every time, so it can be done once and kept.
STILL = (v2.Resize, v2.CenterCrop)


def steps_of(transform: Transform | None) -> list[Transform]:
    """The transforms that one is composed of."""
    if transform is None:
        return []
    return list(transform.transforms) if isinstance(transform, v2.Compose) else [transform]


def still_and_moving(transform: Transform | None) -> tuple[list[Transform], list[Transform]]:
    """The steps of a transform that always do the same, up to the first that does not; and the others."""
    steps = steps_of(transform)
    count = next((i for i, step in enumerate(steps) if not isinstance(step, STILL)), len(steps))
    return steps[:count], steps[count:]


def changes_nothing(step: Transform, image: Tensor) -> bool:
    """Whether a step is a resize to the size that the image (C, H, W) has; to find that out itself takes it 30 µs."""
    return isinstance(step, v2.Resize) and step.max_size is None and step.size == [min(image.shape[1:])]
