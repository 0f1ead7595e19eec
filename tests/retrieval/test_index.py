import pytest
import torch
from torch.nn import functional as F

from dml.retrieval.index import Neighbours, drop_self, nearest, order_ties, search_faiss, search_torch


def naive(
    query: torch.Tensor, gallery: torch.Tensor, k: int, self_index: list[int] | None
) -> list[list[int]]:
    rows = []
    for q in range(len(query)):
        candidates = [g for g in range(len(gallery)) if self_index is None or g != self_index[q]]
        similarity = {g: float(query[q] @ gallery[g]) for g in candidates}
        rows.append(sorted(candidates, key=lambda g: (-similarity[g], g))[:k])
    return rows


@pytest.mark.parametrize("with_self", [True, False])
@pytest.mark.parametrize("k", [1, 7, 60, 200])
def test_against_a_naive_loop(with_self: bool, k: int) -> None:
    torch.manual_seed(0)
    gallery = F.normalize(torch.randn(61, 16)).double()
    own = torch.randperm(61)[:23]
    query = gallery[own] if with_self else F.normalize(torch.randn(23, 16)).double()
    found = nearest(query, gallery, k, own if with_self else None)
    assert found.index_QK.tolist() == naive(query, gallery, k, own.tolist() if with_self else None)
    torch.testing.assert_close(found.similarity_QK.double(), (query @ gallery.T).gather(1, found.index_QK))


@pytest.mark.parametrize("size", [3, 70, 900])
def test_faiss_and_torch_agree(size: int) -> None:
    torch.manual_seed(0)
    gallery, query = F.normalize(torch.randn(size, 32)), F.normalize(torch.randn(40, 32))
    k = min(size, 9)
    ours, theirs = search_torch(query, gallery, k), search_faiss(query, gallery, k)
    assert torch.equal(ours.index_QK, theirs.index_QK)
    torch.testing.assert_close(ours.similarity_QK, theirs.similarity_QK)


def test_self_goes_by_index_not_by_column() -> None:
    # A collapsed gallery: the query itself need not come first, nor be listed at all.
    gallery = torch.ones(50, 4) / 2
    found = nearest(gallery, gallery, 5, torch.arange(50))
    assert found.index_QK.shape == (50, 5)
    assert (found.index_QK != torch.arange(50)[:, None]).all()


def test_drop_self_by_hand() -> None:
    found = Neighbours(torch.tensor([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7]]), torch.tensor([[4, 1, 0], [2, 3, 5]]))
    rest = drop_self(found, torch.tensor([1, 1]))
    assert rest.index_QK.tolist() == [[4, 0], [2, 3]]
    torch.testing.assert_close(rest.similarity_QK, torch.tensor([[0.9, 0.7], [0.9, 0.8]]))


def test_order_ties_by_hand() -> None:
    found = order_ties(Neighbours(torch.tensor([[0.5, 0.9, 0.5, 0.9]]), torch.tensor([[7, 8, 2, 3]])))
    assert found.index_QK.tolist() == [[3, 8, 2, 7]]


def test_bad_input() -> None:
    z = torch.eye(3)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        nearest(z, z, 0)
    with pytest.raises(ValueError, match="1 entries of self_index lie outside the gallery of 3"):
        nearest(z, z, 1, torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match="1 of 3 query embeddings"):
        nearest(torch.tensor([[1.0, 0.0, 0.0], [0.0, torch.nan, 0.0], [0.0, 0.0, 1.0]]), z, 1)
