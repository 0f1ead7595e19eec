"""Verification figures against naive loops and a list worked out by hand."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from dml.retrieval.verification import accuracy, best_threshold, roc

INFINITY = float("inf")


def drawn(seed: int, pairs: int = 120, decimals: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarities with many ties, labels that they hint at, six folds in no order."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.5
    return np.round(rng.normal(same, 0.7), decimals), same, rng.permutation(np.arange(pairs) % 6)


def naive_accuracy(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> list[float]:
    accuracies = []
    for k in sorted(set(fold.tolist())):
        rest = [p for p in range(len(fold)) if fold[p] != k]
        values = sorted({float(similarity[p]) for p in rest})
        thresholds = [-INFINITY, *((a + b) / 2 for a, b in pairwise(values)), INFINITY]
        wrong = [sum((similarity[p] >= t) != same[p] for p in rest) for t in thresholds]
        best = [t for t, n in zip(thresholds, wrong, strict=True) if n == min(wrong)]
        chosen = best[len(best) // 2]
        own = [p for p in range(len(fold)) if fold[p] == k]
        accuracies.append(sum((similarity[p] >= chosen) == same[p] for p in own) / len(own))
    return accuracies


def naive_tar(similarity: np.ndarray, same: np.ndarray, level: float) -> float:
    best = 0.0
    for threshold in [*similarity.tolist(), INFINITY]:
        far = sum(similarity[~same] >= threshold) / sum(~same)
        if far <= level:
            best = max(best, sum(similarity[same] >= threshold) / sum(same))
    return best


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_against_naive_loops(seed: int, decimals: int) -> None:
    similarity, same, fold = drawn(seed, decimals=decimals)
    of_folds = naive_accuracy(similarity, same, fold)
    found = accuracy(similarity, same, fold)
    assert found.mean == pytest.approx(np.mean(of_folds), abs=1e-12)
    error = np.sqrt(sum((a - np.mean(of_folds)) ** 2 for a in of_folds) / 5) / np.sqrt(6)
    assert found.error == pytest.approx(error, abs=1e-12)
    reach = stats.t.ppf(0.975, 5) * error
    assert found.interval == pytest.approx((found.mean - reach, min(1, found.mean + reach)))
    curve = roc(similarity, same)
    for level in (0.5, 0.1, 0.05, 1 / (~same).sum()):
        assert curve.tar_at(level) == pytest.approx(naive_tar(similarity, same, level), abs=1e-12)
    more = (similarity[same][:, None] > similarity[~same]).mean()
    equal = (similarity[same][:, None] == similarity[~same]).mean()
    assert curve.auc == pytest.approx(more + equal / 2)


def test_by_hand() -> None:
    """One different pair ties with a same pair: at its similarity both are accepted, or neither is."""
    similarity = np.array([0.9, 0.8, 0.5, 0.3, 0.8, 0.4, 0.2, 0.1])
    same = np.array([True] * 4 + [False] * 4)
    curve = roc(similarity, same)
    assert curve.far.tolist() == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 1]
    assert curve.tar.tolist() == [0, 0.25, 0.5, 0.75, 0.75, 1, 1, 1]
    assert curve.tar_at(0.25) == 0.75
    assert curve.tar_at(0.26) == 0.75
    assert curve.tar_at(0.1) is None  # needs ten different pairs
    assert best_threshold(similarity, same) == pytest.approx(0.45)  # two wrong, as at 0.25


def test_a_level_needs_one_over_far_different_pairs() -> None:
    same = np.array([True, *[False] * 9])
    assert roc(np.arange(10.0), same).tar_at(0.1) is None
    same = np.append(same, False)
    assert roc(np.append(20.0, np.arange(10.0)), same).tar_at(0.1) == 1
    assert roc(np.arange(11.0), same).tar_at(0.1) == 0  # refused with all others
    assert roc(np.append(8.5, np.arange(10.0)), same).tar_at(0.1) == 1  # one of ten is let in


def test_all_similarities_equal_or_none_a_number_is_chance() -> None:
    same, fold = np.arange(100) % 2 == 0, np.arange(100) // 10
    for similarity in (np.full(100, 0.7), np.full(100, np.nan)):
        found, curve = accuracy(similarity, same, fold), roc(similarity, same)
        assert (found.mean, found.error, curve.auc, curve.tar_at(0.1)) == (0.5, 0, 0.5, 0)


def test_a_similarity_that_is_no_number_is_below_all_others() -> None:
    similarity = np.array([np.nan, 0.9, -0.5, -0.9])
    curve = roc(similarity, np.array([True, True, False, False]))
    assert curve.tar_at(0.5) == 0.5
    assert curve.tar.tolist()[-2:] == [0.5, 1]


def test_perfect_pairs_and_folds_of_one_kind() -> None:
    same = np.arange(40) < 20
    fold = np.arange(40) // 4  # no fold has both kinds
    found = accuracy(np.where(same, 0.8, 0.2), same, fold)
    assert (found.mean, found.error, found.interval) == (1, 0, (1, 1))
    assert found.thresholds.tolist() == [0.5] * 10
