"""`queries.csv`: what a run writes, against a naive loop, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dml.data.protocol import EvaluationSet
from dml.data.split import Samples
from dml.errors import UserError
from dml.retrieval.evaluate import rank_queries
from dml.retrieval.metrics import METRICS, query_metrics, recall_metrics
from dml.runs.queries import read_queries, write_queries

CLASSES = ["alone", 'a "quoted", one', "b\udcff"]


def samples(labels: list[int], role: str) -> Samples:
    names = [f"{role} {i}" for i in range(len(labels))]
    return Samples([Path(name) for name in names], np.array(labels), names)


def write(folder: Path, evaluation: EvaluationSet, z_ND: torch.Tensor) -> None:
    ranking = rank_queries(z_ND, evaluation)
    metrics = query_metrics(ranking, recall_metrics((1, 2)) | METRICS)
    write_queries(folder, evaluation, CLASSES, ranking, metrics)


@pytest.mark.parametrize("apart", [False, True])
def test_rows_are_those_of_a_naive_loop(tmp_path, apart):
    torch.manual_seed(0)
    labels = torch.randint(1, 3, (12,)).tolist()
    gallery = samples(labels[6:], "gallery") if apart else None
    evaluation = EvaluationSet.of(samples(labels[:6] if apart else labels, "query"), gallery)
    z_ND = F.normalize(torch.randn(12, 3))
    write(tmp_path, evaluation, z_ND)
    queries, names = read_queries(tmp_path), evaluation.samples.names
    for q, row in enumerate(queries.rows):
        others = [n for n in (range(6, 12) if apart else range(12)) if n != q]
        others.sort(key=lambda n: -float(z_ND[q] @ z_ND[n]))
        right = next(n for n in others if labels[n] == labels[q])
        wrong = next(n for n in others if labels[n] != labels[q])
        assert (row["name"], row["class"]) == (names[q], CLASSES[labels[q]])
        assert int(row["positives"]) == sum(labels[n] == labels[q] for n in others)
        assert int(row["first_right_rank"]) == others.index(right) + 1
        assert float(row["recall_at_1"]) == (others[0] == right)
        assert (row["right_name"], row["wrong_name"]) == (names[right], names[wrong])
        assert (row["nearest_name"], row["nearest_class"]) == (names[others[0]], CLASSES[labels[others[0]]])
        assert float(row["nearest_similarity"]) == pytest.approx(float(z_ND[q] @ z_ND[others[0]]), abs=1e-6)
    assert set(queries.values) == {"recall_at_1", "recall_at_2", "r_precision", "map_at_r", "mrr"}


def test_a_tie_goes_to_the_wrong_image_and_what_is_not_there_is_empty(tmp_path):
    z_ND = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    write(tmp_path, EvaluationSet.of(samples([1, 1, 2, 0], "query")), z_ND)
    queries = read_queries(tmp_path)
    assert queries.rows[0]["nearest_name"] == "query 2"
    assert queries.rows[0]["first_right_rank"] == "2"
    assert queries.has_positive.tolist() == [True, True, False, False]
    alone = queries.rows[3]
    assert alone["right_name"] == alone["first_right_rank"] == alone["map_at_r"] == ""
    assert alone["nearest_name"] == alone["wrong_name"] != ""
    assert np.isnan(queries.values["mrr"][3])


def test_the_means_of_a_runs_queries_are_its_figures(digits_run):
    figures = json.loads((digits_run(0) / "metrics.json").read_text())
    queries = read_queries(digits_run(0))
    for name, value_Q in queries.values.items():
        assert value_Q[queries.has_positive].mean() == pytest.approx(figures[f"test/{name}"], abs=1e-9)
        low, high = figures["intervals"][f"test/{name}"]
        assert low <= figures[f"test/{name}"] <= high


def test_a_folder_without_queries_and_a_damaged_file_are_one_sentence(tmp_path):
    with pytest.raises(
        UserError, match=r"holds no queries\.csv: python -m dml\.evaluate ckpt_path=… writes it"
    ):
        read_queries(tmp_path)
    write(tmp_path, EvaluationSet.of(samples([1, 1, 2], "query")), torch.eye(3))
    file = tmp_path / "queries.csv"
    whole = list(csv.reader(file.open(errors="surrogateescape")))
    for damage in (whole[:1], [*whole[:2], whole[2][:5]], [["a", "b"], ["1", "2"]]):
        with file.open("w", errors="surrogateescape", newline="") as stream:
            csv.writer(stream).writerows(damage)
        with pytest.raises(UserError, match=r"queries\.csv is damaged or not of this package"):
            read_queries(tmp_path)
