import itertools

import pytest
import torch
from torch.nn import functional as F

from dml.retrieval import similarity
from dml.retrieval.similarity import as_embeddings, block_rows, duplicate_rows, similarity_blocks


def similarities(query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    return torch.cat([S_BN.clone() for _, S_BN in similarity_blocks(query, gallery)])


@pytest.mark.parametrize("shape", [(3, 10), (3, 154), (11, 71), (100, 100), (1237, 512)])
@pytest.mark.parametrize("cuts", [(0, 1, 1100), (0, 333, 350, 1100), (0, 1024, 1100)])
def test_rows_do_not_depend_on_their_share(shape: tuple[int, int], cuts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    gallery = F.normalize(torch.randn(shape))
    query = F.normalize(torch.randn(1100, shape[1]))
    shares = torch.cat([similarities(query[a:b], gallery) for a, b in itertools.pairwise(cuts)])
    assert torch.equal(shares, similarities(query, gallery))
    torch.testing.assert_close(shares, query @ gallery.T)


def test_blocks_cover_every_query_once_and_no_queries_give_an_empty_block() -> None:
    gallery = torch.eye(4)
    assert [block for block, _ in similarity_blocks(torch.ones(2050, 4), gallery)] == [
        slice(0, 1024),
        slice(1024, 2048),
        slice(2048, 2050),
    ]
    assert [tuple(S.shape) for _, S in similarity_blocks(torch.ones(0, 4), gallery)] == [(0, 4)]


def test_block_rows_bound_the_memory() -> None:
    assert block_rows(4) == block_rows(60_502) == 1024
    assert block_rows(10**6) == 64  # 64 · 10⁶ ≤ 2²⁶ < 128 · 10⁶
    assert block_rows(10**9) == 1


def test_equal_gallery_rows_tie_in_every_bit() -> None:
    torch.manual_seed(0)
    gallery = F.normalize(torch.randn(1237, 77))
    repeated = torch.tensor([0, 5, 63, 64, 1000, 1231, 1236])
    gallery[repeated] = gallery[5].clone()
    S_QN = similarities(F.normalize(torch.randn(9, 77)), gallery)
    assert (S_QN[:, repeated] == S_QN[:, :1]).all()


def test_equal_gallery_rows_tie_even_where_the_product_depends_on_the_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def uneven(a_BD: torch.Tensor, b_DN: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(a_BD @ b_DN + 1e-6 * torch.rand(b_DN.shape[1]))

    monkeypatch.setattr(similarity, "full_precision_mm", uneven)
    gallery = F.normalize(torch.ones(100, 4))
    S_QN = similarities(torch.eye(4), gallery)
    assert torch.equal(S_QN, S_QN[:, :1].expand(4, 100))


def test_duplicate_rows_by_hand() -> None:
    a, b = [1.0, 2.0], [2.0, 1.0]
    copies, originals = duplicate_rows(torch.tensor([a, b, a, [0.0, 3.0], b, a, [-0.0, 3.0]]))
    found = sorted(zip(copies.tolist(), originals.tolist(), strict=True))
    assert found == [(2, 0), (4, 1), (5, 0), (6, 3)]


def test_training_precision_settings_do_not_reach_the_product() -> None:
    torch.manual_seed(0)
    query, gallery = F.normalize(torch.randn(20, 64)), F.normalize(torch.randn(70, 64))
    expected = similarities(query, gallery)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(similarities(query, gallery), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_broken_embeddings_are_counted() -> None:
    z = torch.ones(5, 3)
    z[1, 2], z[3, 0], z[4, 1], z[4, 2] = torch.nan, torch.inf, torch.inf, -torch.inf
    with pytest.raises(ValueError, match="3 of 5 gallery embeddings hold a NaN or an infinity"):
        as_embeddings(z, "gallery")
