"""Batches of P classes × K images, by counting."""

import re
import warnings
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from dml.data.sampler import PKBatchSampler, ShuffledPasses
from dml.errors import UserError

# 7 classes of 2, 3, … images; class c holds the images whose label is 10·c, in shuffled places.
SIZES = [2, 3, 9, 4, 6, 5, 12]
LABELS = np.random.default_rng(0).permutation(np.repeat(10 * np.arange(len(SIZES)), SIZES))


def draw(epoch: int = 0, **options: int) -> list[list[int]]:
    settings = {"classes_per_batch": 3, "images_per_class": 4, "steps_per_epoch": 50, "seed": 5, **options}
    sampler = PKBatchSampler(LABELS, **settings)
    sampler.start = epoch * len(sampler)
    return images_of(sampler)


def images_of(sampler: PKBatchSampler) -> list[list[int]]:
    """The images of the batches of an iteration."""
    return [[key.image for key in batch] for batch in sampler]


def test_a_batch_holds_p_classes_of_k_images_side_by_side() -> None:
    for batch in draw():
        labels = LABELS[batch].reshape(3, 4)
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0])) == 3


def test_no_image_twice_in_a_batch_where_its_class_has_enough() -> None:
    for batch in draw():
        for image, times in Counter(batch).items():
            size = SIZES[LABELS[image] // 10]
            assert times <= -(-4 // size)


def test_a_small_class_repeats_its_own_images_evenly() -> None:
    for batch in draw():
        for label, size in ((0, 2), (10, 3)):
            counts = Counter(i for i in batch if LABELS[i] == label)
            if counts:
                assert len(counts) == size
                assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_classes_and_the_images_of_a_class_appear_equally_often(steps: int) -> None:
    shown = Counter(dict.fromkeys(range(len(LABELS)), 0))
    for batch in draw(steps_per_epoch=steps):
        shown.update(batch)
    classes = [sum(shown[i] for i in np.flatnonzero(c == LABELS)) for c in np.unique(LABELS)]
    assert max(classes) - min(classes) <= 4
    for c in np.unique(LABELS):
        counts = [shown[i] for i in np.flatnonzero(c == LABELS)]
        assert max(counts) - min(counts) <= 1


def test_every_class_can_meet_every_other() -> None:
    met = {
        frozenset(pair) for b in draw() for p in LABELS[b] for q in LABELS[b] if p < q for pair in [(p, q)]
    }
    assert len(met) == 7 * 6 // 2


def test_batches_follow_from_seed_and_epoch_and_nothing_else() -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert draw(3) != draw(3, seed=6)
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert (torch.get_rng_state() == before[1]).all()


@pytest.mark.parametrize("world_size", [2, 3, 5, 12])
def test_the_shares_of_all_processes_are_the_global_batch(world_size: int) -> None:
    shares = [draw(2, rank=r, world_size=world_size) for r in range(world_size)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == draw(2)
    sizes = [len(share[0]) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_an_iteration_starts_where_it_is_told_and_is_an_epoch_long() -> None:
    sampler = PKBatchSampler(LABELS, 3, 4, steps_per_epoch=10, seed=5)
    two_epochs = list(sampler)
    sampler.start = 10
    two_epochs += list(sampler)
    sampler.start = 7
    assert list(sampler) == list(sampler) == two_epochs[7:17]
    assert len(sampler) == 10


def test_every_draw_has_a_seed_of_its_own() -> None:
    sampler = PKBatchSampler(LABELS, 3, 4, steps_per_epoch=10, seed=5)
    seeds = [key.seed for batch in sampler for key in batch]
    assert len(set(seeds)) == len(seeds) == 120
    halves = [PKBatchSampler(LABELS, 3, 4, 10, 5, rank, world_size=2) for rank in (0, 1)]
    assert [left + right for left, right in zip(*halves, strict=True)] == list(sampler)


def test_an_epoch_is_one_pass_unless_told() -> None:
    assert len(PKBatchSampler(LABELS, 3, 4)) == 41 // 12
    assert len(PKBatchSampler(LABELS, 7, 12)) == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"classes_per_batch": 8}, "classes_per_batch=8 must be at least 2 and at most 7"),
        ({"classes_per_batch": 1}, "classes_per_batch=1"),
        ({"images_per_class": 13}, "images_per_class=13 must be at least 2 and at most 12"),
        ({"images_per_class": 1}, "images_per_class=1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"rank": 2, "world_size": 2}, "process 2 of 2"),
        ({"world_size": 13}, "batch of 12 images"),
    ],
)
def test_impossible_batches_are_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(UserError, match=named):
        draw(**settings)


def test_a_draw_across_two_passes_repeats_no_item() -> None:
    items = ShuffledPasses(np.arange(5), np.random.default_rng(1))
    draws = [items.draw(3) for _ in range(500)]
    assert all(len(set(draw)) == 3 for draw in draws)
    assert all(sorted(np.concatenate(draws)[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 15, 15))
    counts = np.bincount(np.concatenate(draws))
    assert counts.tolist() == [300] * 5


def test_a_draw_larger_than_a_pass_is_even() -> None:
    items = ShuffledPasses(np.arange(3), np.random.default_rng(2))
    items.draw(2)
    for _ in range(200):
        assert sorted(np.bincount(items.draw(5), minlength=3)) == [1, 2, 2]


@pytest.mark.parametrize(
    ("sizes", "given", "fitted", "said"),
    [  # images of each class, P and K as given, P and K as they are, what a note says
        ([6] * 20, ("auto", "auto"), (16, 5), []),
        ([6] * 7, ("auto", "auto"), (7, 5), ["classes_per_batch=7 in place of 16: there are no more"]),
        (
            [2] * 20,
            ("auto", "auto"),
            (16, 2),
            ["images_per_class=2 in place of 5: no training class has more"],
        ),
        ([2, 3, 4], ("auto", "auto"), (3, 4), ["classes_per_batch=3", "images_per_class=4"]),
        ([2, 1], ("auto", "auto"), (2, 2), ["classes_per_batch=2", "images_per_class=2"]),
        ([6] * 7, (3, "auto"), (3, 5), []),
        ([3] * 20, ("auto", 2), (16, 2), []),
    ],
)
def test_p_and_k_are_fitted_where_they_are_auto(
    sizes: list[int], given: tuple[Any, Any], fitted: tuple[int, int], said: list[str]
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        sampler = PKBatchSampler(labels, *given, steps_per_epoch=1)
    assert (sampler.classes_per_batch, sampler.images_per_class) == fitted
    assert len(images_of(sampler)[0]) == fitted[0] * fitted[1]
    assert len(notes) == len(said)
    assert all(words in str(note.message) for words, note in zip(said, notes, strict=True))


@pytest.mark.parametrize(
    ("sizes", "given", "said"),
    [
        ([6] * 7, (8, "auto"), "classes_per_batch=8 must be at least 2 and at most 7"),
        ([3] * 7, (2, 4), "images_per_class=4 must be at least 2 and at most 3"),
        (
            [9],
            ("auto", "auto"),
            "the training set has 1, the largest of 9: add",
        ),
        ([1] * 9, ("auto", "auto"), "the training set has 9, the largest of 1"),
        ([], ("auto", "auto"), "the training set has 0, the largest"),
    ],
)
def test_what_does_not_fit_is_refused_without_a_note(
    sizes: list[int], given: tuple[Any, Any], said: str, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        PKBatchSampler(np.repeat(np.arange(len(sizes)), sizes), *given)
    assert not recwarn
