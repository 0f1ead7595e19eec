"""Which images train, validate and test."""

from dataclasses import dataclass
from typing import Any

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

    @property
    def query_labels(self) -> np.ndarray:
        """(Nq,) classes of the queries."""
        return self.labels[self.query_index]

    @property
    def searched_index(self) -> np.ndarray:
        """(Ng,) positions of the images that are searched: the gallery, or the queries themselves."""
        return self.query_index if self.gallery_index is None else self.gallery_index

    @classmethod
    def of(cls, query: Samples, gallery: Samples | None = None) -> "EvaluationSet":
        """Queries that search a gallery, or one another."""
        if gallery is None:
            return cls(query, np.arange(len(query)))
        pair: list[Any] = [query.images, gallery.images]
        images = np.concatenate(pair) if isinstance(query.images, np.ndarray) else [*pair[0], *pair[1]]
        labels = np.concatenate([query.labels, gallery.labels])
        index = np.arange(len(labels))
        both = Samples(images, labels, [*query.names, *gallery.names])
        return cls(both, index[: len(query)], index[len(query) :])


def split_by_protocol(split: Split, protocol: str) -> tuple[Samples, dict[str, EvaluationSet]]:
    """The training images, and the evaluation sets of the stages "val" and "test".

    Args:
        split: the dataset.
        protocol: "paper" validates on the test set, as the papers do; "holdout" on training classes that are not
            trained on, see `hold_out`.
    """
    test = EvaluationSet.of(split.query, split.gallery)
    if protocol == "paper":
        return split.train, {"val": test, "test": test}
    train, validation = hold_out(split)
    return train, {"val": EvaluationSet.of(validation), "test": test}


def hold_out(split: Split) -> tuple[Samples, Samples]:
    """The training images without, and those of, a fifth of the training classes, at least two.

    One fixed shuffle chooses the classes: the same for every seed, so that runs compare.

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
    return split.train.subset(~out), split.train.subset(out)
