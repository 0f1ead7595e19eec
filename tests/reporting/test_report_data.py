"""What a report takes from embeddings and images."""

import base64
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from dml.losses import MultiSimilarityLoss, ProxyAnchorLoss
from dml.reporting.data import LARGE, SMALL, thumbnail, weights
from dml.reporting.embeddings import project, sample, similarity_histogram


def test_a_small_set_is_taken_whole() -> None:
    assert sample(np.zeros(7, int)).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("classes", "size"),
    [
        (5, 2000),
        (50, 52),
        (100, 59),
        (11_316, 5),
    ],  # few large ones, Caltech-101, CUB, Stanford Online Products
)
def test_a_sample_of_a_large_set_holds_positives_of_classes_spread_evenly(classes: int, size: int) -> None:
    labels_N = np.repeat(np.arange(classes), size)
    index_M = sample(labels_N)
    kept, count = np.unique(labels_N[index_M], return_counts=True)
    assert 1000 < len(index_M) <= 2000
    assert len(set(index_M.tolist())) == len(index_M)
    assert count.min() >= min(size, 8)
    assert np.diff(kept).max() - np.diff(kept).min() <= 1
    assert (kept[0], kept[-1]) == (0, classes - 1)


def test_histograms_count_every_pair_once() -> None:
    generator = torch.Generator().manual_seed(0)
    z_MD = torch.nn.functional.normalize(torch.randn(12, 4, generator=generator).double(), dim=1)
    labels = [0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 4, 5]
    found = similarity_histogram(z_MD, torch.tensor(labels))
    pairs: dict[bool, list[float]] = {True: [], False: []}
    for i in range(12):
        for j in range(i):
            pairs[labels[i] == labels[j]].append(float(z_MD[i] @ z_MD[j]))
    for kind, values in (("positive", pairs[True]), ("negative", pairs[False])):
        count = np.histogram(values, found["edges"])[0]
        assert found[f"{kind}_pairs"] == len(values) == count.sum()
        assert found[kind] == pytest.approx((count / len(values)).tolist())
        assert found[f"{kind}_deciles"][5] == pytest.approx(np.median(values))


def test_classes_apart_do_not_overlap_and_equal_ones_do_wholly() -> None:
    apart = similarity_histogram(
        torch.eye(2).double().repeat_interleave(3, dim=0), torch.tensor([0] * 3 + [1] * 3)
    )
    assert apart["overlap"] == 0
    equal = similarity_histogram(torch.ones(4, 1).double(), torch.tensor([0, 0, 1, 1]))
    assert equal["overlap"] == 1


def test_a_single_class_has_no_negatives() -> None:
    found = similarity_histogram(torch.eye(3).double(), torch.zeros(3, dtype=torch.long))
    assert (found["negative_pairs"], found["negative_deciles"]) == (0, None)


def test_a_map_keeps_groups_together_and_repeats() -> None:
    rng = np.random.default_rng(0)
    z_MD = np.repeat(np.eye(3), 8, axis=0) + 0.1 * rng.normal(size=(24, 3))
    z_MD /= np.linalg.norm(z_MD, axis=1, keepdims=True)
    x_M2 = project(z_MD, seed=0)
    assert (x_M2.min(), x_M2.max()) == (0, pytest.approx(1))
    distance_MM = np.linalg.norm(x_M2[:, None] - x_M2, axis=2) + 9 * np.eye(24)
    assert (distance_MM.argmin(axis=1) // 8 == np.arange(24) // 8).all()
    assert (project(z_MD, seed=0) == x_M2).all()


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 16, 16), (112, 112)), ((3, 112, 300), (112, 42)), ((3, 150, 100), (75, 112))]
)
def test_a_thumbnail_keeps_the_proportions(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    image_CHW = torch.randint(0, 256, shape, dtype=torch.uint8)
    with Image.open(BytesIO(base64.b64decode(thumbnail(image_CHW, LARGE)))) as image:
        assert (image.format, image.size) == ("WEBP", size)


def test_thumbnails_of_the_worst_pictures_leave_a_report_below_15_megabytes() -> None:
    """Noise compresses worst. A map has at most 2,000 images; the lists 12 + 6 queries, 24 pairs and 12 × 3 queries."""
    noise_CHW = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
    lists = 4 * (12 + 6 + 24 + 36)
    assert 2000 * len(thumbnail(noise_CHW, SMALL)) + lists * len(thumbnail(noise_CHW, LARGE)) < 14e6


def test_the_curves_are_those_of_the_loss_and_a_loss_with_proxies_has_none(compose) -> None:
    config = compose()
    deciles = np.linspace(0, 1, 11)
    histogram = {"positive_deciles": (deciles / 2 + 0.4).tolist(), "negative_deciles": (deciles / 2).tolist()}
    found = weights(MultiSimilarityLoss(alpha=2.0, beta=40.0, lam=0.5, epsilon=0.1), config, histogram)
    assert found is not None
    p, k = config.sampler.classes_per_batch, config.sampler.images_per_class
    assert (len(found["positive_row"]), len(found["negative_row"])) == (k - 1, (p - 1) * k)
    assert found["positive_row"][0] == pytest.approx(0.45)
    assert (
        found["positive"][0] > 0.5 > found["positive"][-1]
    )  # far positives weigh most, near negatives likewise
    assert found["negative"][0] == 0 < found["negative"][-1]
    assert weights(ProxyAnchorLoss(num_classes=3, embedding_dim=4), config, histogram) is None
