"""95% intervals of metrics, by a bootstrap over classes."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import ndtr, stdtrit

LEVEL = 0.95
RESAMPLES = 2000
ENTRIES = 2**22  # counts in memory at a time: 32 MB


def resampled_means(
    value_QM: Float[np.ndarray, "Q M"],
    class_Q: Shaped[np.ndarray, "Q"],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Float[np.ndarray, "S M"]:
    """Means over the queries of classes drawn with replacement, one row a resample.

    A resample draws C of the C classes, each with all its queries, since queries of a class are not independent. All
    columns share the draws, so that the difference of two columns is a paired one.
    Source: Field and Welsh, Bootstrapping clustered data, J. R. Statist. Soc. B 2007.

    Args:
        value_QM: (Q, M), each query's value of M metrics.
        class_Q: (Q,), its class.
        seed: of the draws, ≥ 0; the same seed draws the same classes.
        resamples: S, number of resamples.
    """
    _, class_Q = np.unique(class_Q, return_inverse=True)
    size_C = np.bincount(class_Q)
    sum_CM = np.stack([np.bincount(class_Q, column_Q) for column_Q in value_QM.T], axis=1)
    draws = _draws(len(size_C), seed, resamples)
    return np.concatenate([(count_SC @ sum_CM) / (count_SC @ size_C)[:, None] for count_SC in draws])


def _draws(classes: int, seed: int, resamples: int) -> Iterator[Int[np.ndarray, "S C"]]:
    """How often each class is drawn, in blocks of resamples."""
    generator = np.random.default_rng(seed)
    block = max(1, ENTRIES // classes)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn_SC = generator.integers(classes, size=(rows, classes)) + classes * np.arange(rows)[:, None]
        yield np.bincount(drawn_SC.ravel(), minlength=rows * classes).reshape(rows, classes)


def percentile_interval(mean_SM: Float[np.ndarray, "S M"], classes: int) -> Float[np.ndarray, "M 2"]:
    """Lower and upper end of each column's interval: expanded percentiles of the resampled means.

    Plain percentiles are too narrow for few classes, by about the ratio of a normal to a t quantile and √((C − 1) / C).
    The levels are moved outwards by that much: from 2.5% to 1.6% with 20 classes and to 0.1% with 5.
    Source: Hesterberg, What teachers should know about the bootstrap, The American Statistician 2015, §4.4.

    Args:
        mean_SM: (S, M), as from `resampled_means`; or differences of them.
        classes: C, number of classes that were drawn from, at least 2.
    """
    quantile = stdtrit(classes - 1, (1 - LEVEL) / 2)  # of Student's t
    level = ndtr(quantile * np.sqrt(classes / (classes - 1)))
    return np.quantile(mean_SM, [level, 1 - level], axis=0).T


def class_intervals(
    value_QM: Float[np.ndarray, "Q M"], class_Q: Shaped[np.ndarray, "Q"]
) -> Float[np.ndarray, "M 2"] | None:
    """95% intervals of the means of M metrics; None for a single class, which says nothing of others.

    The interval covers what other test classes of the same kind would have given. It does not cover another seed of
    training.

    Args:
        value_QM, class_Q: as in `resampled_means`, without queries that have no positive.
    """
    classes = len(np.unique(class_Q))
    return None if classes < 2 else percentile_interval(resampled_means(value_QM, class_Q), classes)
