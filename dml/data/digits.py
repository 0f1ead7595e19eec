"""Handwritten digits of 8×8 pixels, which need no download."""

import numpy as np

from dml.data.split import Samples, Split

TRAIN_CLASSES = 5
IMAGES = {"train": 901, "test": 896}


def load() -> Split:
    """The UCI digits as scikit-learn ships them: digits 0–4 train, 5–9 test.

    1,797 images (N, 8, 8), uint8; their 17 grey levels 0–16 are stretched to 0–255, ink white.
    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    train = labels < TRAIN_CLASSES
    assert {"train": train.sum(), "test": (~train).sum()} == IMAGES

    def samples(chosen: np.ndarray) -> Samples:
        return Samples(images[chosen], labels[chosen], [f"digit {i}" for i in np.flatnonzero(chosen)])

    return Split([str(name) for name in digits.target_names], samples(train), samples(~train))
