"""UCI digits: 1,797 handwritten digits of 8×8 pixels, which scikit-learn brings."""

import numpy as np

from dml.data.split import Samples, Split
from dml.errors import UserError

TRAIN_CLASSES = 5
SIDE = 8
VIEWS = 8
PLACES_SEED = 0
FINGERPRINTS = {8: "61c9ec0108a9", 16: "69a499459f8b"}  # by side of the canvas


def load(canvas: int = SIDE) -> Split:
    """The UCI digits as scikit-learn ships them: digits 0–4 train, 5–9 test.

    1,797 images, uint8; their 17 grey levels 0–16 are stretched to 0–255, ink white.
    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998.

    Args:
        canvas: side of the images, in pixels. 8: the digits as they are, (N, 8, 8). Larger: each digit lies
            somewhere on a black canvas (N, canvas, canvas), at a place drawn once and the same in every run, as in the
            translated MNIST of Mnih et al. (Recurrent Models of Visual Attention, NIPS 2014, section 4.1).
    """
    if canvas < SIDE:
        raise UserError(f"dataset.canvas={canvas} must be at least {SIDE}, the side of a digit.")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    names = [f"digit {i}" for i in range(len(images))]
    if canvas > SIDE:
        images, names = _scattered(images, names, canvas)
    samples = Samples(images, digits.target.astype(np.int64), names)
    train = samples.labels < TRAIN_CLASSES
    classes = [str(name) for name in digits.target_names]
    return Split(classes, samples.subset(train), samples.subset(~train), official=FINGERPRINTS.get(canvas))


def _scattered(images: np.ndarray, names: list[str], canvas: int) -> tuple[np.ndarray, list[str]]:
    """Each image (8, 8) somewhere on a black canvas, and names that say where."""
    places = np.random.default_rng(PLACES_SEED).integers(0, canvas - SIDE + 1, (len(images), 2))
    scattered = np.zeros((len(images), canvas, canvas), np.uint8)
    for whole, image, (top, left) in zip(scattered, images, places, strict=True):
        whole[top : top + SIDE, left : left + SIDE] = image
    named = zip(names, places, strict=True)
    return scattered, [f"{name} at {top}, {left} of {canvas}" for name, (top, left) in named]


def rotation_classes(train: Samples) -> Samples:
    """The images in their eight orientations, each orientation of a class a class of its own.

    More training classes generalise better to unseen ones. Source: Santoro et al., Meta-Learning with Memory-Augmented
    Neural Networks, ICML 2016, section 4.1, by quarter turns; here each is mirrored as well. Where a class looks the
    same in two orientations, as a nought does, the two are nevertheless told apart.

    Args:
        train: images in memory, square, with labels 0 … C−1.

    Returns:
        8·N images; label l in orientation v becomes l + v·C.
    """
    images = train.images
    if not isinstance(images, np.ndarray) or images.shape[1] != images.shape[2]:
        raise UserError("dataset.extra_classes: only square images in memory can be turned; set it to null.")
    turns = [np.rot90(images, quarter, axes=(1, 2)) for quarter in range(4)]
    views = [*turns, *(turn[:, :, ::-1] for turn in turns)]
    classes = int(train.labels.max()) + 1
    return Samples(
        np.concatenate(views),
        np.concatenate([train.labels + view * classes for view in range(VIEWS)]),
        [f"{name}, orientation {view}" for view in range(VIEWS) for name in train.names],
    )
