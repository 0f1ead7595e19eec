"""Embeddings put back in order."""

import pytest
import torch

from dml.retrieval.store import EmbeddingStore


def test_every_embedding_returns_to_its_place_and_copies_count_once():
    store = EmbeddingStore()
    z_ND = torch.arange(10.0).reshape(5, 2)
    for index in ([3, 1], [0, 4], [2, 3]):
        store.add(torch.tensor(index), z_ND[index])
    assert torch.equal(store.ordered(5), z_ND)


@pytest.mark.parametrize("index", [[0, 1], [0, 1, 3], [0, 1, 1]])
def test_a_missing_image_is_an_error(index):
    store = EmbeddingStore()
    store.add(torch.tensor(index), torch.zeros(len(index), 2))
    with pytest.raises(RuntimeError, match="of 3 images were evaluated"):
        store.ordered(3)
