import itertools

import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch.nn import functional as F

from dml.retrieval import QueryMetrics, query_metrics, rank_positives, recall_metrics, retrieval_metrics
from dml.retrieval.metrics import METRICS
from dml.retrieval.ranking import largest

KS = (1, 2, 4, 8)


def naive(
    similarity: list[list[float]], labels: list[int], gallery_labels: list[int], own: list[int] | None
) -> dict[str, float]:
    """Sort each row, other classes first among equals; then read the definitions off the list."""
    sums, counted = dict.fromkeys([*(f"recall_at_{k}" for k in KS), "r_precision", "map_at_r", "mrr"], 0.0), 0
    for q, row in enumerate(similarity):
        candidates = [g for g in range(len(row)) if own is None or g != own[q]]
        candidates.sort(key=lambda g: (-row[g], gallery_labels[g] == labels[q]))
        hits = [gallery_labels[g] == labels[q] for g in candidates]
        R = sum(hits)
        if R == 0:
            continue
        counted += 1
        for k in KS:
            sums[f"recall_at_{k}"] += any(hits[:k])
        sums["mrr"] += 1 / (1 + hits.index(True))
        sums["r_precision"] += sum(hits[:R]) / R
        sums["map_at_r"] += sum(sum(hits[: i + 1]) / (i + 1) for i in range(R) if hits[i]) / R
    return {name: total / counted for name, total in sums.items()} | {
        "queries_without_positives": float(len(labels) - counted)
    }


def clustered(size: int, classes: int, dim: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(size) % classes
    labels = labels[torch.randperm(size)]
    return F.normalize(torch.randn(classes, dim)[labels] + spread * torch.randn(size, dim)), labels


def test_four_images_by_hand() -> None:
    # Unit vectors at 0°, 10°, 30° and 40° of classes a, b, a, b. From 0° the others follow as 10° (b),
    # 30° (a), 40° (b): one ahead of the first a. From 10° as 0° (a), 30° (a), 40° (b): two ahead of the b.
    # The other two mirror these.
    angle = torch.tensor([0.0, 10.0, 30.0, 40.0]).deg2rad()
    z, labels = torch.stack([angle.cos(), angle.sin()], dim=1), torch.tensor([0, 1, 0, 1])
    ranking = rank_positives(z, labels, z, labels, torch.arange(4))
    assert ranking.others_ahead.tolist() == [1, 2, 2, 1]
    assert ranking.right_index.tolist() == [2, 3, 0, 1]
    assert ranking.wrong_index.tolist() == [1, 0, 3, 2]
    assert torch.allclose(ranking.right_similarity, torch.tensor(30.0).deg2rad().cos().expand(4))
    assert torch.allclose(ranking.wrong_similarity, torch.tensor(10.0).deg2rad().cos().expand(4))
    metrics = retrieval_metrics(z, labels, z, labels, torch.arange(4), ks=(1, 2, 3))
    assert metrics == {
        "recall_at_1": 0.0,
        "recall_at_2": 0.5,
        "recall_at_3": 1.0,
        "r_precision": 0.0,
        "map_at_r": 0.0,
        "mrr": pytest.approx(5 / 12, abs=1e-12),
        "queries_without_positives": 0.0,
    }


def test_average_precision_by_hand() -> None:
    # The query's similarities are the gallery itself: positives at places 1, 3, 4 and 6, and so R = 4.
    gallery = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4]])
    labels = torch.tensor([1, 0, 1, 1, 0, 1])
    metrics = retrieval_metrics(torch.ones(1, 1), torch.tensor([1]), gallery, labels)
    assert metrics["r_precision"] == 3 / 4
    assert metrics["map_at_r"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 4, abs=1e-12)


def test_against_pytorch_metric_learning() -> None:
    torch.manual_seed(0)
    z, labels = clustered(700, 60, 24)
    ours = retrieval_metrics(z, labels, z, labels, torch.arange(700))
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    theirs = AccuracyCalculator(include=names, k="max_bin_count").get_accuracy(z, labels)
    for our_name, their_name in zip(("recall_at_1", "r_precision", "map_at_r"), names, strict=True):
        assert 0.1 < ours[our_name] < 0.9
        assert ours[our_name] == pytest.approx(theirs[their_name], abs=1e-6)


@pytest.mark.parametrize(("size", "classes", "levels"), [(97, 13, 2), (300, 7, 3), (150, 90, 2), (60, 1, 2)])
@pytest.mark.parametrize("with_self", [True, False])
def test_against_a_naive_loop_with_ties(size: int, classes: int, levels: int, with_self: bool) -> None:
    # Small whole numbers: products are exact, most of them tie, and many embeddings are equal.
    torch.manual_seed(size)
    gallery = torch.randint(0, levels, (size, 5)).float()
    gallery_labels = torch.randint(0, classes, (size,))
    own = torch.randperm(size)[: size // 2]
    query = gallery[own] if with_self else torch.randint(0, levels, (size // 2, 5)).float()
    self_index = own if with_self else None
    ours = retrieval_metrics(query, gallery_labels[own], gallery, gallery_labels, self_index, KS)
    expected = naive(
        (query @ gallery.T).tolist(),
        gallery_labels[own].tolist(),
        gallery_labels.tolist(),
        own.tolist() if with_self else None,
    )
    assert ours == pytest.approx(expected, abs=1e-11)


def test_large_gallery_against_a_naive_loop() -> None:
    # Long enough for the grouped search of the largest values; two clusters of images are exact copies.
    torch.manual_seed(0)
    z, labels = clustered(1301, 200, 16)
    z[100:160], z[900:980] = z[7].clone(), z[8].clone()
    ours = retrieval_metrics(z, labels, z, labels, torch.arange(1301), KS)
    S = z.double() @ z.double().T  # float64 parts near ties as float32 does, for this seed
    S[:, 100:160], S[:, 900:980] = S[:, 7:8].clone(), S[:, 8:9].clone()
    assert ours == pytest.approx(
        naive(S.tolist(), labels.tolist(), labels.tolist(), list(range(1301))), abs=1e-9
    )


@pytest.mark.parametrize("vector", ["ones", "messy"])
@pytest.mark.parametrize(("size", "dim"), [(1237, 77), (61, 512), (2049, 3)])
def test_a_collapsed_model_finds_nothing(vector: str, size: int, dim: int) -> None:
    torch.manual_seed(0)
    row = F.normalize(torch.ones(1, dim) if vector == "ones" else torch.randn(1, dim))
    z, labels = row.repeat(size, 1), torch.arange(size) // 5
    metrics = retrieval_metrics(z, labels, z, labels, torch.arange(size))
    assert metrics.pop("queries_without_positives") == float(size % 5 == 1)
    assert metrics.pop("mrr") < 5 / size  # others of all classes come first
    assert set(metrics.values()) == {0.0}


def test_query_and_gallery_apart_keep_identical_images() -> None:
    # In-Shop: without self_index an identical image in the gallery is a legitimate match.
    z, labels = torch.eye(3), torch.arange(3)
    assert retrieval_metrics(z, labels, z, labels)["recall_at_1"] == 1.0


def test_singletons_are_left_out_and_counted() -> None:
    z = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [-1.0, 0.0]]))
    labels = torch.tensor([3, 3, 5, 9, 9])  # 5 is alone; both 9s lie nearer to it than to each other
    metrics = retrieval_metrics(z, labels, z, labels, torch.arange(5), ks=(1, 4))
    assert metrics["queries_without_positives"] == 1.0
    assert metrics["recall_at_1"] == 0.5
    assert metrics["recall_at_4"] == 1.0


@pytest.mark.parametrize("cuts", [(0, 2500), (0, 1, 2500), (0, 700, 719, 2500), (0, 0, 2500)])
def test_shares_of_the_queries_give_the_same_to_the_last_digit(cuts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    z, labels = clustered(2500, 300, 48, spread=1.5)
    whole = retrieval_metrics(z, labels, z, labels, torch.arange(2500), KS)
    shares = []
    for a, b in itertools.pairwise(cuts):
        ranking = rank_positives(z[a:b], labels[a:b], z, labels, torch.arange(a, b))
        shares.append(query_metrics(ranking, recall_metrics(KS) | METRICS))
    values = {name: torch.cat([share.values[name] for share in shares]) for name in shares[0].values}
    assert QueryMetrics(torch.cat([share.has_positive for share in shares]), values).means() == whole
    # In any order: every third image first.
    order = torch.arange(2500).reshape(-1, 4).T.flatten()
    assert retrieval_metrics(z[order], labels[order], z, labels, order, KS) == whole


def test_recall_is_an_exact_quotient_and_large_k_is_the_whole_gallery() -> None:
    torch.manual_seed(0)
    z, labels = clustered(333, 50, 8)
    ranking = rank_positives(z, labels, z, labels, torch.arange(333))
    means = query_metrics(ranking, recall_metrics((1, 10**6))).means()
    assert means["recall_at_1"] == int((ranking.others_ahead < 1).sum()) / 333
    assert means["recall_at_1000000"] == 1.0


def test_largest_values_are_those_of_topk() -> None:
    torch.manual_seed(0)
    for columns, k in itertools.product((130, 640, 1999), (1, 5, 15)):
        S = torch.randint(0, 50, (7, columns)).float()
        S[0], S[1, 1:] = 3.0, -torch.inf
        values, columns = largest(S, k)
        assert torch.equal(values, S.topk(k, dim=1).values)
        assert torch.equal(S.gather(1, columns), values)
        assert all(len(set(row)) == k for row in columns.tolist())


def test_bad_input() -> None:
    z, labels = torch.eye(3), torch.tensor([0, 0, 1])
    with pytest.raises(ValueError, match="1 of 3 gallery embeddings hold a NaN"):
        retrieval_metrics(z, labels, z.masked_fill(torch.tensor([[1], [0], [0]]).bool(), torch.nan), labels)
    with pytest.raises(ValueError, match="self_index gives 2 queries an image of another class"):
        retrieval_metrics(z, labels, z, labels, torch.tensor([0, 2, 1]))
    with pytest.raises(ValueError, match="lie outside the gallery of 3"):
        retrieval_metrics(z, labels, z, labels, torch.tensor([0, 1, -1]))
    with pytest.raises(ValueError, match="None of the 3 queries has another image of its class"):
        retrieval_metrics(z, torch.arange(3), z, torch.arange(3), torch.arange(3))
    with pytest.raises(ValueError, match="at least 1"):
        retrieval_metrics(z, labels, z, labels, torch.arange(3), ks=(0, 1))
