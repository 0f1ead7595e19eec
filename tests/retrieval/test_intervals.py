"""Intervals of metrics: against a naive bootstrap, by simulation, at the edges."""

import numpy as np
import pytest
import torch

from dml.retrieval import QueryMetrics
from dml.retrieval.intervals import class_intervals, percentile_interval, resampled_means


def draw_queries(generator: np.random.Generator, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits of queries, (Q, 1), and their classes: each class has its own share of hits, 0.6 on average."""
    share_C, size_C = generator.beta(6, 4, classes), generator.integers(10, 60, classes)
    class_Q = np.repeat(np.arange(classes), size_C)
    return (generator.random(len(class_Q)) < share_C[class_Q]).astype(float)[:, None], class_Q


@pytest.mark.parametrize("classes", [8, 60])
def test_the_truth_is_in_nine_to_nine_point_eight_of_ten_intervals(classes):
    generator = np.random.default_rng(0)
    ends = np.stack([class_intervals(*draw_queries(generator, classes))[0] for _ in range(200)])
    covered = ((ends[:, 0] <= 0.6) & (ends[:, 1] >= 0.6)).mean()
    assert 0.90 <= covered <= 0.98


def test_queries_alone_as_units_would_be_far_too_sure():
    generator = np.random.default_rng(0)
    value_QM, class_Q = draw_queries(generator, 20)
    by_class = np.diff(class_intervals(value_QM, class_Q))
    by_query = np.diff(class_intervals(value_QM, np.arange(len(class_Q))))
    assert by_class > 1.5 * by_query


def test_resamples_are_means_over_the_queries_of_drawn_classes():
    value_QM = np.array([[1.0, 0.5], [0.0, 0.5], [1.0, 0.25], [1.0, 0.0]])
    class_Q = np.array(["a", "a", "b", "b"])
    means = resampled_means(value_QM, class_Q, resamples=4000)
    # aa, ab, ba, bb: each with probability 1/4.
    kinds, counts = np.unique(means, axis=0, return_counts=True)
    assert kinds.tolist() == [[0.5, 0.5], [0.75, 0.3125], [1.0, 0.125]]
    assert np.allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)


def test_blocks_and_names_of_classes_change_nothing(monkeypatch):
    value_QM, class_Q = draw_queries(np.random.default_rng(0), 30)
    whole = resampled_means(value_QM, class_Q)
    assert whole.shape == (2000, 1)
    monkeypatch.setattr("dml.retrieval.intervals.ENTRIES", 30 * 7)
    assert np.array_equal(resampled_means(value_QM, class_Q + 5), whole)
    assert not np.array_equal(resampled_means(value_QM, class_Q, seed=1), whole)


def test_few_classes_widen_the_interval_and_many_do_not():
    mean_SM = np.random.default_rng(0).normal(size=(200_000, 1))
    few, many = percentile_interval(mean_SM, 5)[0], percentile_interval(mean_SM, 100_000)[0]
    # ±t_{0.975, 4} √(5/4) = 2.776 · 1.118, and ±1.96.
    assert few == pytest.approx([-3.10, 3.10], abs=0.05)
    assert many == pytest.approx([-1.96, 1.96], abs=0.02)


def test_equal_values_have_no_width_and_one_class_no_interval():
    assert class_intervals(np.ones((6, 1)), np.array([0, 0, 1, 1, 2, 2])).tolist() == [[1.0, 1.0]]
    assert class_intervals(np.ones((2, 1)), np.array([7, 7])) is None


def test_queries_without_positives_are_left_out():
    hits = torch.tensor([1.0, 1.0, 0.0])
    metrics = QueryMetrics(torch.tensor([True, True, False]), {"recall_at_1": hits})
    assert metrics.intervals(np.array([0, 1, 2])) == {"recall_at_1": [1.0, 1.0]}
