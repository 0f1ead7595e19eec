"""Digits: what the split holds."""

import numpy as np

from dml.data import digits


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
