"""More classes to learn from: images turned and mirrored."""

import numpy as np

from dml.data.split import Samples
from dml.errors import UserError

VIEWS = 8


def turned_classes(train: Samples) -> Samples:
    """The images in their eight orientations, each orientation of a class a class of its own.

    Few classes make a poor teacher of unseen ones. Source: Santoro et al., Meta-Learning with Memory-Augmented
    Neural Networks, ICML 2016, section 4.1, by quarter turns; here each is mirrored as well. Where a class looks the
    same in two orientations, as a nought does, the two are nevertheless told apart.

    Args:
        train: images in memory, square, with labels 0 … C−1.

    Returns:
        8·N images; label l in orientation v becomes l + v·C.

    Raises:
        UserError: the images are files, or not square.
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
