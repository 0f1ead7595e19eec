"""Which images train, validate and test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dml.data.split import Samples, Split
from dml.errors import UserError

HOLDOUT_SHARE = 0.2
HOLDOUT_SEED = 0


@dataclass(frozen=True)
class EvaluationSet:
    """Images to evaluate a model on.

    Attributes:
        samples: N images: the queries, then the gallery where that is a set of its own. Labels are positions
            in the split's classes.
        query_index: (Nq,) positions of the images that search.
        gallery_index: (Ng,) positions of the images that are searched; None where the queries search one
            another.
    """

    samples: Samples
    query_index: np.ndarray
    gallery_index: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """(N,) classes of the images."""
        return self.samples.labels

    @classmethod
    def of(cls, query: Samples, gallery: Samples | None = None) -> "EvaluationSet":
        """Queries that search a gallery, or one another."""
        if gallery is None:
            return cls(query, np.arange(len(query)))
        both = np.arange(len(query) + len(gallery))
        return cls(concatenate(query, gallery), both[: len(query)], both[len(query) :])


def concatenate(first: Samples, second: Samples) -> Samples:
    """The images of both, in order."""
    if isinstance(first.images, np.ndarray) and isinstance(second.images, np.ndarray):
        images: Sequence | np.ndarray = np.concatenate([first.images, second.images])
    else:
        images = [*first.images, *second.images]
    return Samples(images, np.concatenate([first.labels, second.labels]), [*first.names, *second.names])


def subset(samples: Samples, chosen: np.ndarray) -> Samples:
    """The images at the given positions, or where the (N,) mask is true."""
    index = np.arange(len(samples))[chosen]
    if isinstance(samples.images, np.ndarray):
        images: Sequence | np.ndarray = samples.images[index]
    else:
        images = [samples.images[i] for i in index]
    return Samples(images, samples.labels[index], [samples.names[i] for i in index])


def hold_out(split: Split) -> Split:
    """The training side alone, a part of its classes held out as the queries of a validation.

    A fifth of the training classes, at least two, chosen by one fixed shuffle: the same for every seed, so
    that runs compare. The queries search one another.

    Raises:
        UserError: fewer than four training classes; all that are held out have a single image.
    """
    classes = np.unique(split.train.labels)
    if len(classes) < 4:
        raise UserError(
            f"protocol=holdout needs at least 4 training classes, not {len(classes)}: use protocol=paper."
        )
    count = max(2, round(HOLDOUT_SHARE * len(classes)))
    held = np.random.default_rng(HOLDOUT_SEED).permutation(classes)[:count]
    out = np.isin(split.train.labels, held)
    if np.bincount(split.train.labels[out]).max() < 2:
        names = ", ".join(str(split.classes[c]) for c in np.sort(held)[:3])
        raise UserError(
            f"protocol=holdout would validate on {names}, classes of one image each, where there is nothing to find: "
            "give them more images, or use protocol=paper."
        )
    return Split(split.classes, subset(split.train, ~out), subset(split.train, out))


def split_by_protocol(split: Split, protocol: str) -> tuple[Samples, dict[str, EvaluationSet]]:
    """The training images, and the evaluation sets of the stages "val" and "test".

    Args:
        split: the dataset.
        protocol: "paper" validates on the test set, as the papers do; "holdout" on a part of the training
            classes that is not trained on, see `hold_out`.
    """
    test = EvaluationSet.of(split.query, split.gallery)
    if protocol == "paper":
        return split.train, {"val": test, "test": test}
    held = hold_out(split)
    return held.train, {"val": EvaluationSet.of(held.query), "test": test}


def relabel(samples: Samples) -> tuple[Samples, np.ndarray]:
    """The images with labels 0 … C−1 over their own classes, and (C,) the former labels."""
    kept, labels = np.unique(samples.labels, return_inverse=True)
    return Samples(samples.images, labels.astype(np.int64), samples.names), kept
