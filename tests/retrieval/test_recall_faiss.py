import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dml.errors import UserError
from dml.retrieval import QueryMetrics, query_metrics, rank_positives, recall, recall_metrics
from dml.retrieval.index import Neighbours
from dml.retrieval.recall import (
    LONGEST_LIST,
    has_positive,
    largest_difference,
    others_ahead_bounds,
    recall_in_lists,
)

KS = (1, 2, 4, 8)
SIZE = 700


def mixed_labels() -> Tensor:
    """A class of 40, 40 classes of 3, 260 of 2 and 20 of one image."""
    sizes = torch.tensor([40] + 40 * [3] + 260 * [2] + 20 * [1])
    return torch.arange(len(sizes)).repeat_interleave(sizes)[torch.randperm(SIZE)]


def random(labels: Tensor, dim: int) -> Tensor:
    return F.normalize(torch.randn(SIZE, dim))


def clustered(labels: Tensor, dim: int) -> Tensor:
    return F.normalize(torch.randn(SIZE, dim)[labels] + 0.7 * torch.randn(SIZE, dim))


def duplicates(labels: Tensor, dim: int) -> Tensor:
    return clustered(labels, dim)[torch.randint(0, SIZE // 4, (SIZE,))]


def quantised(labels: Tensor, dim: int) -> Tensor:
    """Whole numbers, whose products are exact."""
    return torch.randint(-1, 2, (SIZE, dim)).float()


def quantised_and_scaled(labels: Tensor, dim: int) -> Tensor:
    """The same three values on every axis, with products that depend on the order of summation."""
    return quantised(labels, dim) * torch.rand(dim) * dim**-0.5


def collapsed(labels: Tensor, dim: int) -> Tensor:
    return F.normalize(torch.randn(1, dim)).repeat(SIZE, 1)


def nearly_collapsed(labels: Tensor, dim: int) -> Tensor:
    return collapsed(labels, dim) + 1e-7 * torch.randn(SIZE, dim)


def noisy_duplicates(labels: Tensor, dim: int) -> Tensor:
    return duplicates(labels, dim) + 1e-7 * torch.randn(SIZE, dim)


def of_all_lengths(labels: Tensor, dim: int) -> Tensor:
    return clustered(labels, dim) * torch.logspace(-3, 3, SIZE)[torch.randperm(SIZE), None]


def overflowing(labels: Tensor, dim: int) -> Tensor:
    return clustered(labels, dim) * 1e20


EMBEDDINGS = (
    random,
    clustered,
    duplicates,
    quantised,
    quantised_and_scaled,
    collapsed,
    nearly_collapsed,
    noisy_duplicates,
    of_all_lengths,
    overflowing,
)


def by_whole_rows(ks: tuple[int, ...], *sets: Tensor | None) -> QueryMetrics:
    return query_metrics(rank_positives(*sets), recall_metrics(ks))  # type: ignore[arg-type]


def assert_equal(ours: QueryMetrics, expected: QueryMetrics) -> None:
    """The same queries count, and each of them has the same values."""
    counted_Q = expected.has_positive
    assert torch.equal(ours.has_positive, counted_Q)
    assert list(ours.values) == list(expected.values)
    for name, value_Q in expected.values.items():
        assert torch.equal(ours.values[name][counted_Q].double(), value_Q[counted_Q]), name


@pytest.fixture
def rows_asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the number of queries of each call of `rank_positives` by `recall_in_lists`."""
    calls = []

    def counting(query: Tensor, *rest: Tensor | None) -> object:
        calls.append(len(query))
        return rank_positives(query, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(recall, "rank_positives", counting)
    return calls


@pytest.mark.parametrize("make", EMBEDDINGS)
@pytest.mark.parametrize("dim", [3, 64, 512])
def test_totals_are_those_of_whole_rows(make: Callable[[Tensor, int], Tensor], dim: int) -> None:
    torch.manual_seed(dim)
    labels = mixed_labels()
    z, itself = make(labels, dim), torch.arange(SIZE)
    for ks in (KS, (1,), (30, 3)):
        ours = recall_in_lists(z, labels, z, labels, itself, ks)
        assert_equal(ours, by_whole_rows(ks, z, labels, z, labels, itself))
        assert (~ours.has_positive).sum() == 20  # the singletons
    # Query and gallery apart: a singleton may now be its own match, classes may be missing.
    query, gallery = slice(0, 300), slice(200, SIZE)
    sets = z[query], labels[query], z[gallery], labels[gallery]
    assert_equal(recall_in_lists(*sets, ks=KS), by_whole_rows(KS, *sets))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("with_self", [True, False])
def test_lists_off_by_all_that_is_allowed(
    seed: int, with_self: bool, monkeypatch: pytest.MonkeyPatch, rows_asked: list[int]
) -> None:
    """The search sees similarities up to δ away from those of whole rows: nothing may come of it."""
    torch.manual_seed(seed)
    labels, difference = mixed_labels(), 0.02
    z = clustered(labels, 16)
    sets = (z, labels, z, labels) if with_self else (z[:300], labels[:300], z[300:], labels[300:])
    self_index = torch.arange(SIZE) if with_self else None

    def off(query: Tensor, gallery: Tensor, k: int, self_index: Tensor | None) -> Neighbours:
        S = query @ gallery.T
        S += 0.999 * difference * (2 * torch.randint(0, 2, S.shape) - 1)
        if self_index is not None:
            S[torch.arange(len(S)), self_index] = -torch.inf
        return Neighbours(*S.topk(k, dim=1))

    monkeypatch.setattr(recall, "nearest", off)
    monkeypatch.setattr(recall, "largest_difference", lambda q, _: torch.full((len(q),), difference).double())
    ours = recall_in_lists(*sets, self_index, KS)
    assert_equal(ours, by_whole_rows(KS, *sets, self_index))
    # Were either to decide all queries, nothing would have been tried.
    assert 0.1 < sum(rows_asked) / int(ours.has_positive.sum()) < 0.9


def test_bounds_by_hand() -> None:
    T, inf, nan = [0.9, 0.8, 0.5], torch.inf, torch.nan
    cases = [
        (T, [0, 1, 0], 0.01, (1, 1)),  # 0.9 is ahead, 0.5 is behind, and so is what is not listed
        (T, [0, 1, 0], 0.06, (0, 1)),  # 0.9 within 2 · 0.06 of 0.8
        (T, [0, 0, 0], 0.01, (2, 4)),  # the positive is no better than 0.5 + 0.01
        (T, [0, 0, 0], 0.16, (1, 4)),  # 0.8 within 2 · 0.16 of 0.5
        (T, [0, 0, 1], 0.01, (2, 4)),  # what is not listed may tie with 0.5
        (T, [1, 0, 0], 0.16, (0, 1)),
        ([0.9, 0.8, 0.8], [0, 1, 0], 0.0, (1, 4)),  # an exact tie is open even with nothing allowed
        (T, [0, 1, 0], inf, (0, 4)),
        (T, [0, 1, 0], nan, (0, 4)),
        ([inf, inf, 1.0], [0, 1, 0], inf, (0, 4)),
        ([nan, 0.8, 0.5], [0, 1, 0], 0.01, (0, 1)),
    ]
    for similarity, positive, difference, expected in cases:
        found = Neighbours(torch.tensor([similarity]), torch.tensor([[4, 5, 6]]))
        bounds = others_ahead_bounds(
            found, torch.tensor([positive]).bool(), torch.tensor([difference]).double()
        )
        assert tuple(int(bound) for bound in bounds) == expected


def test_has_positive_by_hand() -> None:
    gallery = torch.tensor([5, 3, 5, 7])
    assert has_positive(gallery, gallery, torch.arange(4)).tolist() == [True, False, True, False]
    assert has_positive(torch.tensor([3, 4, 5]), gallery, None).tolist() == [True, False, True]


def test_the_difference_allowed_covers_what_is_seen() -> None:
    torch.manual_seed(0)
    for scale, dim in itertools.product((1e-15, 1.0, 1e15), (1, 33, 2048)):
        query, gallery = scale * F.normalize(torch.randn(50, dim)), F.normalize(torch.randn(80, dim))
        gallery[7] *= 100  # the longest of the gallery counts
        seen = (query @ gallery.T).double() - query.double() @ gallery.T.double()
        allowed = largest_difference(query, gallery)
        assert (seen.abs().amax(dim=1) <= allowed / 2).all()
        assert (allowed < 1.25e-7 * dim * scale * 100).all()


@pytest.mark.parametrize("make", [random, clustered])
def test_few_queries_of_healthy_embeddings_need_their_row(
    make: Callable[[Tensor, int], Tensor], rows_asked: list[int]
) -> None:
    torch.manual_seed(0)
    labels = mixed_labels()
    z = make(labels, 128)
    recall_in_lists(z, labels, z, labels, torch.arange(SIZE), KS)
    assert sum(rows_asked) < 0.03 * SIZE


def test_every_query_of_a_collapsed_model_needs_its_row(rows_asked: list[int]) -> None:
    torch.manual_seed(0)
    labels = mixed_labels()
    z = collapsed(labels, 128)
    found = recall_in_lists(z, labels, z, labels, torch.arange(SIZE), KS)
    assert rows_asked == [680]  # the singletons need nothing
    assert found.means()["recall_at_8"] == 0.0


@pytest.mark.parametrize("cuts", [(0, 1, 700), (0, 350, 350, 700), (0, 9, 28, 650, 700)])
@pytest.mark.parametrize("make", [clustered, noisy_duplicates])
def test_shares_of_the_queries_give_the_same(
    make: Callable[[Tensor, int], Tensor], cuts: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    labels = mixed_labels()
    z = make(labels, 48)
    whole = recall_in_lists(z, labels, z, labels, torch.arange(SIZE), KS)
    shares = [
        recall_in_lists(z[a:b], labels[a:b], z, labels, torch.arange(a, b), KS)
        for a, b in itertools.pairwise(cuts)
    ]
    values = {name: torch.cat([share.values[name] for share in shares]) for name in whole.values}
    assert_equal(QueryMetrics(torch.cat([share.has_positive for share in shares]), values), whole)


@pytest.mark.parametrize("k", [LONGEST_LIST, LONGEST_LIST + 1])
def test_long_lists_are_left_to_whole_rows(k: int, rows_asked: list[int]) -> None:
    torch.manual_seed(0)
    labels = mixed_labels()
    z = clustered(labels, 128)
    ours = recall_in_lists(z, labels, z, labels, torch.arange(SIZE), (1, k))
    assert (sum(rows_asked) == SIZE) == (k > LONGEST_LIST)
    assert_equal(ours, by_whole_rows((1, k), z, labels, z, labels, torch.arange(SIZE)))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 10, 11])
def test_small_galleries(size: int) -> None:
    torch.manual_seed(size)
    z, labels = torch.randint(0, 3, (size, 4)).float(), torch.randint(0, 3, (size,))
    for own, ks in itertools.product((None, torch.arange(size)), ((1,), (1, 8), (2, 10**6))):
        ours = recall_in_lists(z, labels, z, labels, own, ks)
        assert_equal(ours, by_whole_rows(ks, z, labels, z, labels, own))


def test_bad_input() -> None:
    torch.manual_seed(0)
    z, labels, itself = torch.randn(20, 4), torch.arange(20) // 2, torch.arange(20)
    broken = z.clone()
    broken[3, 1] = torch.nan
    for k in (1, 10**6):
        with pytest.raises(UserError, match="1 of 20 gallery embeddings hold a NaN"):
            recall_in_lists(z, labels, broken, labels, itself, (k,))
        with pytest.raises(UserError, match="1 of 20 query embeddings hold a NaN"):
            recall_in_lists(broken, labels, z, labels, itself, (k,))
        with pytest.raises(ValueError, match="self_index gives 20 queries an image of another class"):
            recall_in_lists(z, labels, z, labels, (itself + 2) % 20, (k,))
        with pytest.raises(ValueError, match="1 entries of self_index lie outside the gallery of 20"):
            recall_in_lists(z, labels, z, labels, itself + 1, (k,))
    for ks in ((), (1, 0)):
        with pytest.raises(ValueError, match="at least one K, and each at least 1"):
            recall_in_lists(z, labels, z, labels, itself, ks)
