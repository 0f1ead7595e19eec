"""Verification: do two images show the same person? Accuracy, TAR at FAR, ROC.

Definitions of Huang, Ramesh, Berg and Learned-Miller, Labeled Faces in the Wild, 2007. A pair is said to be the same at
threshold t if its similarity is ≥ t, so pairs with one similarity are all accepted or all refused. A similarity that is
not a number is below every threshold.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from sklearn.metrics import auc, roc_curve

from dml.retrieval.intervals import LEVEL

FAR_LEVELS = (1e-1, 1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over K folds.

    Attributes:
        mean: of the folds' accuracies.
        error: standard error of the mean.
        interval: 95% interval of the mean, within [0, 1].
        thresholds: (K,) applied to each fold.
    """

    mean: float
    error: float
    interval: tuple[float, float]
    thresholds: Float[np.ndarray, "K"]


@dataclass(frozen=True)
class Roc:
    """Rates of accepted pairs by threshold, from refusing all pairs to accepting all.

    Attributes:
        far: (T,) share of the different pairs that is accepted (false accept rate), ascending.
        tar: (T,) share of the same pairs that is accepted (true accept rate).
        threshold: (T,) accepted at or above it, descending; infinite where all are refused.
        negatives: number of different pairs.
    """

    far: Float[np.ndarray, "T"]
    tar: Float[np.ndarray, "T"]
    threshold: Float[np.ndarray, "T"]
    negatives: int

    @property
    def auc(self) -> float:
        """Area under the curve: the chance that a same pair is more similar than a different one, ties a half."""
        return float(auc(self.far, self.tar))

    def tar_at(self, level: float) -> float | None:
        """Largest TAR whose FAR is at most `level`; None with fewer than 1/level different pairs."""
        if self.negatives < needed_negatives(level):
            return None
        return float(self.tar[self.far <= level].max())


def needed_negatives(level: float) -> int:
    """Number of different pairs from which on one false accept is a FAR of at most `level`."""
    return round(1 / level)


def comparable(similarity_P: Float[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
    """The similarities in float64, those that are not finite below all others."""
    similarity_P = similarity_P.astype(np.float64)
    finite_P = np.isfinite(similarity_P)
    lowest = similarity_P[finite_P].min(initial=0.0)
    return np.where(finite_P, similarity_P, lowest - 1)


def roc(similarity_P: Float[np.ndarray, "P"], same_P: Bool[np.ndarray, "P"]) -> Roc:
    """The ROC curve, a point for every distinct similarity; both kinds of pairs must be there."""
    far, tar, threshold = roc_curve(same_P, comparable(similarity_P), drop_intermediate=False)
    return Roc(far, tar, threshold, int((~same_P).sum()))


def best_threshold(similarity_P: Float[np.ndarray, "P"], same_P: Bool[np.ndarray, "P"]) -> float:
    """The threshold with the fewest wrong pairs, halfway between two neighbouring similarities or beyond all.

    Of several the middle one, so that the choice leans neither way and is the same in every run.
    """
    level = np.unique(similarity_P)
    threshold_T = np.concatenate([[-np.inf], (level[1:] + level[:-1]) / 2, [np.inf]])
    same, different = np.sort(similarity_P[same_P]), np.sort(similarity_P[~same_P])
    wrong_T = np.searchsorted(same, threshold_T) + len(different) - np.searchsorted(different, threshold_T)
    best = np.flatnonzero(wrong_T == wrong_T.min())
    return float(threshold_T[best[len(best) // 2]])


def accuracy(
    similarity_P: Float[np.ndarray, "P"], same_P: Bool[np.ndarray, "P"], fold_P: Int[np.ndarray, "P"]
) -> Accuracy:
    """Accuracy of each fold at the `best_threshold` of the others: mean, standard error and interval.

    The standard error is LFW's: the standard deviation over the K folds with K − 1 in its denominator, divided by √K.
    The interval is the mean ± the 97.5% quantile of Student's t with K − 1 degrees of freedom times that. It takes the
    folds as independent, which they are only roughly: any two share K − 2 of the folds that choose their thresholds.

    Args:
        similarity_P: similarities.
        same_P: whether a pair is the same.
        fold_P: fold of each pair, K ≥ 2 of them.
    """
    similarity_P = comparable(similarity_P)
    folds = np.unique(fold_P)
    threshold_K = np.array([best_threshold(similarity_P[fold_P != k], same_P[fold_P != k]) for k in folds])
    right_P = (similarity_P >= threshold_K[np.searchsorted(folds, fold_P)]) == same_P
    accuracy_K = np.array([right_P[fold_P == k].mean() for k in folds])
    mean, error = float(accuracy_K.mean()), float(accuracy_K.std(ddof=1) / np.sqrt(len(folds)))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(folds) - 1)) * error
    return Accuracy(mean, error, (max(0.0, mean - reach), min(1.0, mean + reach)), threshold_K)
