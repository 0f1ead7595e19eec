"""Other conventions on the same embeddings, each on images made to show what it changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dml.data.protocol import EvaluationSet
from dml.data.split import Samples
from dml.retrieval.audit import audit
from dml.retrieval.clustering import k_means
from dml.retrieval.evaluate import rank_queries


def samples(labels: list[int]) -> Samples:
    names = [str(i) for i in range(len(labels))]
    return Samples([Path(name) for name in names], np.array(labels), names)


def recalls(z_ND: torch.Tensor, evaluation: EvaluationSet) -> dict[str, float]:
    columns = audit(z_ND, evaluation, rank_queries(z_ND, evaluation), [1])
    return {name: column["recall_at_1"] for name, column in columns.items()}


def test_a_collapsed_model_scores_one_if_ties_go_to_the_query() -> None:
    found = recalls(F.normalize(torch.ones(12, 4)), EvaluationSet.of(samples([0, 1, 2] * 4)))
    assert found["here"] == 0.0
    assert found["ties for the query"] == 1.0


def test_ties_are_found_where_another_device_ranked() -> None:
    # Its similarities differ in the last bits from those of the audit, which runs on the CPU.
    z_ND, evaluation = F.normalize(torch.ones(12, 4)), EvaluationSet.of(samples([0, 1, 2] * 4))
    ranking = rank_queries(z_ND, evaluation)
    ranking = ranking._replace(right_similarity=ranking.right_similarity - 1e-7)
    assert audit(z_ND, evaluation, ranking, [1])["ties for the query"]["recall_at_1"] == 1.0


def test_a_duplicate_keeps_the_query_in_its_own_list() -> None:
    # Images 0 and 1 are the same picture under two classes: of equal similarities FAISS lists the lower position
    # first, so the list of image 1 is 0, 1, …, and without its first entry holds image 1 itself.
    z_ND = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]]))
    found = recalls(z_ND, EvaluationSet.of(samples([0, 1, 0, 1])))
    assert found["here"] == 0.0
    assert found["first column dropped"] == 0.25


def test_singletons_are_misses() -> None:
    z_ND = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 1.0]]))
    found = recalls(z_ND, EvaluationSet.of(samples([0, 0, 1, 2])))
    assert (found["here"], found["singletons counted"]) == (1.0, 0.5)


def test_conventions_agree_where_nothing_ties_and_a_gallery_has_no_column_to_drop() -> None:
    torch.manual_seed(0)
    z_ND, labels = F.normalize(torch.randn(60, 8)), torch.randint(0, 6, (60,)).tolist()
    assert len(set(recalls(z_ND, EvaluationSet.of(samples(labels))).values())) == 1
    apart = recalls(z_ND, EvaluationSet.of(samples(labels[:20]), samples(labels[20:])))
    assert set(apart) == {"here", "ties for the query", "singletons counted"}
    assert len(set(apart.values())) == 1


def test_k_means_once_is_another_clustering() -> None:
    torch.manual_seed(0)
    z_ND, evaluation = F.normalize(torch.randn(200, 8)), EvaluationSet.of(samples([0, 1, 2, 3] * 50))
    columns = audit(z_ND, evaluation, rank_queries(z_ND, evaluation), [1, 2], k_means(z_ND, 4).numpy())
    assert columns["k-means once"].keys() == {"nmi", "ami"}
    assert columns["k-means once"]["nmi"] != pytest.approx(columns["here"]["nmi"], abs=1e-9)
