"""Digits: what the split holds."""

import numpy as np
import pytest

from dml.data.datasets import digits
from dml.errors import UserError


def test_five_digits_train_and_the_other_five_test() -> None:
    split = digits.load()
    assert list(split.classes) == list("0123456789")
    assert np.unique(split.train.labels).tolist() == [0, 1, 2, 3, 4]
    assert np.unique(split.query.labels).tolist() == [5, 6, 7, 8, 9]
    assert (len(split.train), len(split.query), split.gallery) == (901, 896, None)
    assert len({*split.train.names, *split.query.names}) == 1797


def test_images_are_bytes_that_use_the_whole_range() -> None:
    images = digits.load().train.images
    assert isinstance(images, np.ndarray)
    assert (images.dtype, images.shape) == (np.uint8, (901, 8, 8))
    assert (images.min(), images.max(), len(np.unique(images))) == (0, 255, 17)


def test_on_a_canvas_each_digit_lies_whole_somewhere() -> None:
    plain, scattered = digits.load().query, digits.load(canvas=16).query
    again = digits.load(canvas=16).query.images
    assert isinstance(plain.images, np.ndarray)
    assert isinstance(scattered.images, np.ndarray)
    assert scattered.images.shape == (896, 16, 16)
    assert (scattered.images == again).all()
    assert (scattered.labels == plain.labels).all()
    places = set()
    for digit, image in zip(plain.images, scattered.images, strict=True):
        corners = [(y, x) for y in range(9) for x in range(9) if (image[y : y + 8, x : x + 8] == digit).all()]
        assert corners
        assert image.sum() == digit.sum()
        places.add(corners[0])
    assert len(places) > 70


def test_a_canvas_smaller_than_a_digit_is_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.canvas=7 must be at least 8"):
        digits.load(canvas=7)
