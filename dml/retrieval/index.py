"""Exact nearest neighbours."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml.retrieval.similarity import as_embeddings, similarity_blocks


class Neighbours(NamedTuple):
    """The K gallery images nearest to each query, nearest first.

    Attributes:
        similarity_QK: (Q, K) inner products, falling along a row.
        index_QK: (Q, K) positions in the gallery; equal similarities in rising order of position.
    """

    similarity_QK: Float[Tensor, "Q K"]
    index_QK: Int[Tensor, "Q K"]


def search_faiss(query_QD: Float[Tensor, "Q D"], gallery_ND: Float[Tensor, "N D"], k: int) -> Neighbours:
    """The k nearest by FAISS's brute-force search, that of IndexFlatIP without its copy of the gallery."""
    import faiss  # lazily: its threads must not start in a process that goes on to fork

    similarity, index = faiss.knn(query_QD.numpy(), gallery_ND.numpy(), k, metric=faiss.METRIC_INNER_PRODUCT)
    return Neighbours(torch.from_numpy(similarity), torch.from_numpy(index))


def search_torch(query_QD: Float[Tensor, "Q D"], gallery_ND: Float[Tensor, "N D"], k: int) -> Neighbours:
    """The k nearest by blocks of the similarity matrix, on whichever device the embeddings are."""
    found = [S_BN.topk(k, dim=1) for _, S_BN in similarity_blocks(query_QD, gallery_ND)]
    return Neighbours(torch.cat([top.values for top in found]), torch.cat([top.indices for top in found]))


def drop_self(found: Neighbours, self_index: Int[Tensor, "Q"]) -> Neighbours:
    """The neighbours without the query itself, or without the last where the query is not listed."""
    itself_QK = found.index_QK == self_index[:, None]
    rest_QK = itself_QK.to(torch.uint8).argsort(dim=1, stable=True)[:, :-1]
    return Neighbours(found.similarity_QK.gather(1, rest_QK), found.index_QK.gather(1, rest_QK))


def order_ties(found: Neighbours) -> Neighbours:
    """The same neighbours by falling similarity and, where that is equal, by rising position."""
    by_index = found.index_QK.argsort(dim=1)
    similarity_QK, index_QK = found.similarity_QK.gather(1, by_index), found.index_QK.gather(1, by_index)
    similarity_QK, by_similarity = similarity_QK.sort(dim=1, descending=True, stable=True)
    return Neighbours(similarity_QK, index_QK.gather(1, by_similarity))


@torch.no_grad()
def nearest(
    query_QD: Float[Tensor, "Q D"],
    gallery_ND: Float[Tensor, "N D"],
    k: int,
    self_index: Int[Tensor, "Q"] | None = None,
) -> Neighbours:
    """The k gallery images with the largest inner product with each query, found by exhaustive search.

    Embeddings are expected L2-normalised, which makes the inner product the cosine. FAISS searches on the CPU, torch
    elsewhere. If equal similarities reach past the end of a list, the library chooses which of them it holds;
    `rank_positives` and the metrics therefore use whole rows.

    Args:
        query_QD: (Q, D).
        gallery_ND: (N, D), on the same device.
        k: length of a list, at least 1; at most N, or N − 1 with `self_index`, are returned.
        self_index: (Q,) position of each query in the gallery, left out of its list; None where none is.

    Raises:
        ValueError: k is not positive, or `self_index` points outside the gallery.
        UserError: an embedding holds a NaN or an infinity.
    """
    if k < 1:
        raise ValueError(f"The number of neighbours must be at least 1, not {k}.")
    query_QD, gallery_ND = as_embeddings(query_QD, "query"), as_embeddings(gallery_ND, "gallery")
    search = search_faiss if gallery_ND.device.type == "cpu" else search_torch
    if self_index is None:
        return order_ties(search(query_QD, gallery_ND, min(k, len(gallery_ND))))
    check_self_index(self_index, len(gallery_ND))
    return order_ties(drop_self(search(query_QD, gallery_ND, min(k + 1, len(gallery_ND))), self_index))


def check_self_index(self_index: Int[Tensor, "Q"], gallery_size: int) -> None:
    """Raises ValueError unless every entry is a position in a gallery of that size."""
    outside = (self_index < 0) | (self_index >= gallery_size)
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} entries of self_index lie outside the gallery of {gallery_size}."
        )
