"""Classes out of orientations, on two images of 2×2 pixels."""

from pathlib import Path

import numpy as np
import pytest

from dml.data.datasets.digits import rotation_classes
from dml.data.split import Samples
from dml.errors import UserError

#   1 2        5 6
#   3 4        7 8
IMAGES = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], dtype=np.uint8)
TRAIN = Samples(IMAGES, np.array([1, 0]), ["first", "second"])


def test_each_orientation_of_a_class_is_a_class() -> None:
    """Two classes: orientation v of labels 1, 0 has labels 1 + 2v, 0 + 2v."""
    turned = rotation_classes(TRAIN)
    assert turned.labels.tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14]
    assert turned.labels.dtype == np.int64
    assert list(turned.names[:3]) == ["first, orientation 0", "second, orientation 0", "first, orientation 1"]
    assert len(set(turned.names)) == 16


def test_the_eight_orientations_of_a_square_by_hand() -> None:
    """Quarter turns against the clock, then the same mirrored left to right."""
    first = rotation_classes(TRAIN).images[::2]
    assert first.reshape(8, 4).tolist() == [
        [1, 2, 3, 4],
        [2, 4, 1, 3],
        [4, 3, 2, 1],
        [3, 1, 4, 2],
        [2, 1, 4, 3],
        [4, 2, 3, 1],
        [3, 4, 1, 2],
        [1, 3, 2, 4],
    ]


def test_colour_images_keep_their_channels() -> None:
    colour = np.stack([IMAGES, IMAGES + 10, IMAGES + 20], axis=-1)
    turned = rotation_classes(Samples(colour, np.array([0, 1]), ["a", "b"]))
    assert turned.images.shape == (16, 2, 2, 3)
    assert (turned.images[..., 1] == turned.images[..., 0] + 10).all()


def test_files_and_oblong_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"dataset.extra_classes: only square images in memory"):
        rotation_classes(Samples([Path("a.png")], np.array([0]), ["a"]))
    with pytest.raises(UserError, match="set it to null"):
        rotation_classes(Samples(np.zeros((1, 2, 3), np.uint8), np.array([0]), ["a"]))
