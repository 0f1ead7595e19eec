"""NMI and AMI: right where the clusters are plain, whatever the seed, and from one clustering."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from torch import Tensor
from torch.nn import functional as F

from dml.errors import UserError
from dml.retrieval.clustering import agreement, agreement_intervals, clustering_metrics, k_means


def separate(size: int, classes: int, dim: int, spread: float = 0.02) -> tuple[Tensor, Tensor]:
    labels = torch.arange(size) % classes
    return F.normalize(
        F.normalize(torch.randn(classes, dim))[labels] + spread * torch.randn(size, dim)
    ), labels


@pytest.mark.parametrize("seed", range(10))
def test_perfectly_separate_clusters_are_found_whatever_the_seed(seed: int) -> None:
    torch.manual_seed(0)
    z, labels = separate(500, 10, 16)
    assert clustering_metrics(z, labels, seed) == pytest.approx({"nmi": 1.0, "ami": 1.0})


def test_random_labels_have_an_ami_of_zero_and_many_clusters_a_high_nmi() -> None:
    torch.manual_seed(0)
    z, labels = F.normalize(torch.randn(300, 8)), torch.arange(300) % 100
    metrics = clustering_metrics(z, labels)
    assert metrics["nmi"] > 0.6
    assert abs(metrics["ami"]) < 0.1


def test_both_are_of_one_clustering() -> None:
    torch.manual_seed(0)
    z, labels = separate(200, 8, 4, spread=0.6)
    cluster = k_means(z, 8, seed=3)
    assert clustering_metrics(z, labels, seed=3) == {
        "nmi": normalized_mutual_info_score(labels, cluster),
        "ami": adjusted_mutual_info_score(labels, cluster),
    }


def test_more_starts_fit_no_worse() -> None:
    torch.manual_seed(0)
    z, _ = separate(300, 20, 8, spread=0.4)

    def spread(cluster: Tensor) -> float:
        return sum(
            float((z[cluster == c] - z[cluster == c].mean(dim=0)).square().sum()) for c in cluster.unique()
        )

    one, many = (sum(spread(k_means(z, 20, seed, starts)) for seed in range(5)) for starts in (1, 5))
    assert many < one


@pytest.mark.parametrize("distinct", [1, 3])
def test_fewer_distinct_embeddings_than_clusters(distinct: int) -> None:
    z = F.normalize(torch.eye(3)[:distinct]).repeat(30 // distinct, 1)
    metrics = clustering_metrics(z, torch.arange(30) % 5)
    assert metrics["nmi"] == pytest.approx(0, abs=1e-9)
    assert metrics["ami"] <= 1e-9


def test_singletons_and_one_class() -> None:
    z = torch.eye(6)
    assert clustering_metrics(z, torch.arange(6)) == pytest.approx({"nmi": 1.0, "ami": 1.0})
    assert clustering_metrics(z, torch.zeros(6, dtype=torch.long)) == pytest.approx({"nmi": 1.0, "ami": 1.0})


def test_intervals_hold_the_figure_and_narrow_with_more_classes() -> None:
    widths = []
    for classes in (12, 200):
        generator = np.random.default_rng(0)
        class_N = np.arange(classes).repeat(10)
        cluster_N = np.where(generator.random(len(class_N)) < 0.5, class_N, generator.permutation(class_N))
        metrics, intervals = agreement(class_N, cluster_N), agreement_intervals(class_N, cluster_N)
        assert all(low < metrics[name] < high <= 1 for name, (low, high) in intervals.items())
        widths.append(intervals["nmi"][1] - intervals["nmi"][0])
    assert widths[1] < widths[0] / 2


def test_an_interval_is_that_of_a_naive_jackknife() -> None:
    class_N = np.arange(6).repeat(20)
    cluster_N = np.where(np.arange(120) % 4 == 0, (class_N + 1) % 6, class_N)
    cluster_N[:9] = 3
    without = [normalized_mutual_info_score(class_N[class_N != c], cluster_N[class_N != c]) for c in range(6)]
    mean = sum(without) / 6
    half = (
        2.5706 * (5 / 6 * sum((value - mean) ** 2 for value in without)) ** 0.5
    )  # t of 5 degrees of freedom
    low, high = agreement_intervals(class_N, cluster_N)["nmi"]
    value = normalized_mutual_info_score(class_N, cluster_N)
    assert 0 < value - half < value + half < 1
    assert (low, high) == (pytest.approx(value - half, abs=1e-4), pytest.approx(value + half, abs=1e-4))


def test_intervals_stay_within_the_ranges_of_nmi_and_ami() -> None:
    class_N, cluster_N = np.array([4, 4, 7, 7, 9, 9]), np.array([0, 0, 1, 0, 2, 2])
    intervals = agreement_intervals(class_N, cluster_N)
    assert intervals["nmi"] == [0.0, 1.0]
    assert -1 <= intervals["ami"][0] < intervals["ami"][1] <= 1


def test_equal_groupings_have_no_width_and_fewer_than_three_classes_no_interval() -> None:
    class_N = np.arange(30) // 5
    assert agreement_intervals(class_N, class_N + 3) == {"nmi": [1.0, 1.0], "ami": [1.0, 1.0]}
    assert agreement_intervals(np.zeros(5, int), np.zeros(5, int)) == {}
    assert agreement_intervals(np.arange(20) // 10, np.arange(20) % 2) == {}


def test_broken_embeddings_are_refused() -> None:
    z = torch.eye(4).index_fill(0, torch.tensor([1]), torch.nan)
    with pytest.raises(UserError, match="1 of 4 clustered embeddings hold a NaN"):
        clustering_metrics(z, torch.arange(4) // 2)
