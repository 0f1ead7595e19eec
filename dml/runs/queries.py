"""`queries.csv`: each test query's own value of every metric, what it found and what it took for it."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from dml.data.protocol import EvaluationSet
from dml.errors import UserError
from dml.retrieval.metrics import QueryMetrics
from dml.retrieval.ranking import Ranking
from dml.runs.tables import TEXT, write_csv

NAME = "queries.csv"
FIRST = ("name", "class", "positives", "first_right_rank")
LAST = (
    *("right_name", "right_similarity"),
    *("nearest_name", "nearest_class", "nearest_similarity"),
    *("wrong_name", "wrong_class", "wrong_similarity"),
)


def write_queries(
    folder: Path, evaluation: EvaluationSet, classes: Sequence[str], ranking: Ranking, metrics: QueryMetrics
) -> None:
    """Write a row for each query, in their order; the file is whole or not there.

    Columns: its name and class; `positives`, R; `first_right_rank`, rank of its most similar positive; each metric
    under its own name; `right_…`, its most similar positive; `nearest_…`, the most similar image of all, one of another
    class if they tie; `wrong_…`, the most similar image of another class. Where there is no such image, cells are
    empty; without a positive, so are those of rank and metrics. The ranking is of positions in the evaluation set.
    """
    rows = _rows(evaluation, classes, ranking, metrics)
    write_csv(folder / NAME, [*FIRST, *metrics.values, *LAST], rows)


def _rows(
    evaluation: EvaluationSet, classes: Sequence[str], ranking: Ranking, metrics: QueryMetrics
) -> Iterator[list[Any]]:
    names, labels = evaluation.samples.names, evaluation.labels

    def image(index: int, similarity: float) -> list[Any]:
        return (
            [names[index], str(classes[labels[index]]), similarity]
            if similarity > -np.inf
            else [None, None, None]
        )

    columns = (field.tolist() for field in (*ranking, metrics.has_positive, *metrics.values.values()))
    for query, row in zip(evaluation.query_index.tolist(), zip(*columns, strict=True), strict=True):
        positives, ahead, _, _, right, right_s, wrong, wrong_s, counted, *values = row
        own = [positives, ahead + 1, *values] if counted else [0, None, *(None for _ in values)]
        found, mistaken = image(right, right_s), image(wrong, wrong_s)
        nearest = mistaken if ahead or not counted else found
        yield [
            names[query],
            str(classes[labels[query]]),
            *own,
            found[0],
            found[2],
            *nearest,
            *mistaken,
        ]


@dataclass(frozen=True)
class Queries:
    """What `queries.csv` holds.

    Attributes:
        rows: of the file, by column.
        class_Q: (Q,) names of the queries' classes.
        has_positive: (Q,), whether a query counts in the means.
        values: name of a metric → (Q,) float64, NaN for a query that does not count.
    """

    rows: list[dict[str, str]]
    class_Q: Shaped[np.ndarray, "Q"]
    has_positive: Bool[np.ndarray, "Q"]
    values: dict[str, Float[np.ndarray, "Q"]]

    def sorted(self) -> "Queries":
        """The same queries by name, in whatever order the images were listed."""
        order = sorted(range(len(self.rows)), key=lambda q: self.rows[q]["name"])
        values = {name: value_Q[order] for name, value_Q in self.values.items()}
        return Queries([self.rows[q] for q in order], self.class_Q[order], self.has_positive[order], values)


def read_queries(folder: str | Path) -> Queries:
    """The queries of a run's or an evaluation's folder; a UserError if the file is not there or not whole."""
    file = Path(folder) / NAME
    if not file.is_file():
        raise UserError(
            f"{folder} holds no {NAME}: python -m dml.evaluate ckpt_path=… writes it for a run of an earlier version."
        )
    with file.open(**TEXT) as stream:
        reader = csv.DictReader(stream)
        names, rows = reader.fieldnames or [], list(reader)
    metrics = [name for name in names if name not in {*FIRST, *LAST}]
    if not rows or not {*FIRST, *LAST} <= {*names} or any(None in {*row, *row.values()} for row in rows):
        raise UserError(f"{file} is damaged or not of this package: evaluate the run again.")
    try:
        values = {name: np.array([float(row[name] or "nan") for row in rows]) for name in metrics}
        counted_Q = np.array([int(row["positives"]) > 0 for row in rows])
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): evaluate the run again.") from None
    return Queries(rows, np.array([row["class"] for row in rows]), counted_Q, values)
