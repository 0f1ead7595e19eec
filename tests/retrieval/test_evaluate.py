"""From the embeddings of an evaluation set, batch by batch, to its metrics."""

import numpy as np
import pytest
import torch

from dml.data.protocol import EvaluationSet
from dml.data.split import Samples
from dml.retrieval.evaluate import EmbeddingStore, evaluate_embeddings


def samples(labels: list[int]) -> Samples:
    count = len(labels)
    images = np.zeros((count, 2, 2), dtype=np.uint8)
    return Samples(images, np.array(labels, dtype=np.int64), [str(n) for n in range(count)])


def unit(degrees: list[float]) -> torch.Tensor:
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_queries_search_one_another_without_themselves():
    # 0° and 10° are a class, 11° and 90° another: 10° finds 11° first, 11° finds 10°, 90° finds 11°, 0° finds 10°.
    evaluation = EvaluationSet.of(samples([0, 0, 1, 1]))
    metrics = evaluate_embeddings(unit([0, 10, 11, 90]), evaluation, [1, 2]).means()
    assert metrics["recall_at_1"] == 0.5
    # Two nearest: 10° has 11°, 0°; 11° has 10°, 0°.
    assert metrics["recall_at_2"] == 0.75
    alone = evaluate_embeddings(unit([0, 10, 11, 90]), evaluation, [1, 2], {}).means()
    assert alone == {
        name: metrics[name] for name in ("recall_at_1", "recall_at_2", "queries_without_positives")
    }


def test_a_gallery_of_its_own_is_all_that_is_searched():
    evaluation = EvaluationSet.of(samples([0, 1]), samples([0, 1]))
    metrics = evaluate_embeddings(unit([0, 1, 40, 20]), evaluation, [1, 2]).means()
    assert metrics["recall_at_1"] == 0.5  # both find the gallery's 20°, of class 1
    assert metrics["recall_at_2"] == 1.0


def test_each_query_has_its_own_value_of_any_metric():
    evaluation = EvaluationSet.of(samples([0, 0, 1, 1, 2]))
    place = {"place": lambda ranking: ranking.others_ahead + 1.0}
    found = evaluate_embeddings(unit([0, 10, 11, 90, 180]), evaluation, [1], place)
    assert found.has_positive.tolist() == [True, True, True, True, False]
    assert found.values["place"][:4].tolist() == [1, 2, 3, 1]
    assert found.values["recall_at_1"][:4].tolist() == [1, 0, 0, 1]
    assert found.means() == {"recall_at_1": 0.5, "place": 1.75, "queries_without_positives": 1.0}


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
