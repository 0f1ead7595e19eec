"""Statistics of pairs while training."""

import csv
import math
import warnings

import pytest
import torch
from pytorch_lightning import seed_everything

from dml.callbacks.pair_statistics import (
    entropy,
    pair_statistics,
    similarity_statistics,
    weight_statistics,
)
from dml.config.build import build_data, build_module, build_trainer
from dml.losses import ContrastiveLoss, MultiSimilarityLoss, Pairs, ProxyAnchorLoss, ProxyNCALoss


def unit(degrees: list[float]) -> torch.Tensor:
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_a_batch_worked_out_by_hand():
    # 0° and 60° are a class, 90° and 180° the other: positives have cosines 1/2 and 0; negatives 0 (0°, 90°),
    # -1 (0°, 180°), √3/2 (60°, 90°) and -1/2 (60°, 180°). Contrastive at 0.7: the third alone weighs.
    statistics = pair_statistics(ContrastiveLoss(0.7), unit([0, 60, 90, 180]), torch.tensor([0, 0, 1, 1]))
    expected = {
        "positive_similarity": 0.25,
        "negative_similarity": (math.sqrt(3) / 2 - 1.5) / 4,
        # Each ordered pair counts: mean S² = (4 + 2 · (0.25 + 0 + 0 + 1 + 0.75 + 0.25)) / 16.
        "effective_dimension": 16 / 8.5,
        # Half of the positives share the bin of 0 with a quarter of the negatives.
        "overlap": 0.25,
        # Σ z = (0.5, √3/2 + 1)
        "resultant_length": math.hypot(0.5, math.sqrt(3) / 2 + 1) / 4,
        "anchor_share": 1.0,
        "positive_share": 1.0,
        "negative_share": 0.25,
        "positive_entropy": 1.0,
        "negative_entropy": math.log(2) / math.log(8),
    }
    assert set(statistics) == set(expected)
    for name, value in expected.items():
        assert statistics[name].item() == pytest.approx(value, abs=1e-5), name


def test_anchors_that_mining_drops_are_not_counted():
    weights = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 2.0]])
    positive = torch.tensor([[True, False, False], [True, False, False]])
    statistics = weight_statistics(weights, Pairs(positive, ~positive))
    assert statistics["anchor_share"] == 0.5
    assert statistics["positive_share"] == 0.5
    assert statistics["negative_share"] == 0.25


def test_entropy_is_one_for_equal_weights_and_zero_for_a_single_one():
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert entropy(torch.full((2, 3), 7.0), mask).item() == pytest.approx(1)
    assert entropy(torch.tensor([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0]]), mask) == 0
    assert entropy(torch.zeros(2, 3), mask) == 0


def test_overlap_is_zero_apart_and_one_together():
    S = torch.tensor([[0.9, 0.9, -0.9, -0.9]])
    apart = torch.tensor([[True, True, False, False]])
    together = torch.tensor([[True, False, True, False]])
    assert similarity_statistics(S, Pairs(apart, ~apart))["overlap"] == 0
    assert similarity_statistics(S, Pairs(together, ~together))["overlap"] == 1


def test_spread_evenly_the_dimension_is_the_spaces_own():
    z = torch.cat([torch.eye(8), -torch.eye(8)])
    statistics = pair_statistics(MultiSimilarityLoss(), z, torch.arange(16) // 2)
    assert statistics["effective_dimension"].item() == pytest.approx(8)
    assert statistics["resultant_length"].item() == pytest.approx(0)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_a_batch_without_one_kind_of_pair_is_finite(labels):
    statistics = pair_statistics(MultiSimilarityLoss(), unit([0, 10, 20, 30]), torch.tensor(labels))
    assert all(torch.isfinite(value) for value in statistics.values())
    assert statistics["anchor_share"] == 0


def test_few_anchors_see_the_whole_batch():
    z, labels = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 5
    some = pair_statistics(MultiSimilarityLoss(), z, labels, anchors=39)
    every = pair_statistics(MultiSimilarityLoss(), z, labels)
    for name, value in every.items():
        assert some[name].item() == pytest.approx(value.item(), abs=0.05), name


@pytest.mark.parametrize("loss", [ProxyNCALoss(2, 2), ProxyAnchorLoss(2, 2)])
def test_a_loss_with_proxies_has_no_weights_of_pairs(loss):
    statistics = pair_statistics(loss, unit([0, 60, 90, 180]), torch.tensor([0, 0, 1, 1]))
    assert "overlap" in statistics
    assert "anchor_share" not in statistics


FAST = (
    "debug=fast",
    "trainer=cpu",
    "model.embedding_dim=8",
    "dataset.canvas=8",
    "callbacks.recall.nmi=false",
    "trainer.max_steps=2",
)


def fit(config):
    seed_everything(config.seed, verbose=False)
    data = build_data(config)
    module = build_module(config, data.num_classes)
    build_trainer(config).fit(module, datamodule=data)
    return module


def test_statistics_are_logged_and_training_is_the_same_without_them(compose, tmp_path):
    # A mining that draws at random must not take draws from what dropout draws from.
    loss = ("loss=general", "mining=distance_weighted", "weighting=power")
    with_them = fit(compose(*FAST, *loss, "callbacks.pair_statistics.every_n_steps=2", folder="with"))
    drawn = torch.get_rng_state()
    without = fit(compose(*FAST, *loss, "callbacks.pair_statistics=null", folder="without"))
    assert torch.equal(torch.get_rng_state(), drawn)
    for one, other in zip(with_them.parameters(), without.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    (file,) = (tmp_path / "with").rglob("metrics.csv")
    with file.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["pairs/overlap"]]
    assert [row["step"] for row in rows] == ["1"]  # the second of two
    assert 0 < float(rows[0]["pairs/anchor_share"]) <= 1


def test_a_collapse_is_told_once_and_loudly(compose):
    config = compose(*FAST)
    data = build_data(config)
    module = build_module(config, data.num_classes)
    with torch.no_grad():
        for parameter in module.embedder.head.parameters():
            parameter.fill_(1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build_trainer(config).fit(module, datamodule=data)
    told = [str(warning.message) for warning in caught if "COLLAPSED" in str(warning.message)]
    assert len(told) == 1
    assert "at step 1" in told[0]
    assert "mean similarity of 1.000" in told[0]
