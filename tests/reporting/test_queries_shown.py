"""Which queries a report shows, on a table written by hand."""

from pathlib import Path

import pytest

from dml.errors import UserError
from dml.reporting.queries import confusions, duplicates, failures, queries_of, successes

HEADER = (
    "name,class,positives,first_right_rank,recall_at_1,right_name,right_similarity,"
    "nearest_name,nearest_class,nearest_similarity,wrong_name,wrong_class,wrong_similarity"
)
ROWS = """\
a1,a,2,1,1.0,a2,0.9,a2,a,0.9,b1,b,0.5
a2,a,2,3,0.0,a1,0.4,b1,b,0.6,b1,b,0.6
a3,a,2,3,0.0,a1,0.4,b2,b,0.8,b2,b,0.8
b1,b,1,2,0.0,b2,0.7,a3,a,0.99995,a3,a,0.99995
b2,b,1,1,1.0,b1,0.7,b1,b,0.7,a3,a,0.6
c1,c,0,,,,,b1,b,0.3,b1,b,0.3
a4,a,2,9,0.0,a1,0.1,b1,b,0.99995,b1,b,0.99995
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "queries.csv").write_text(f"{HEADER}\n{ROWS}")
    return tmp_path


def test_failures_come_by_rank_then_by_preference_for_the_wrong_image(folder: Path) -> None:
    queries = queries_of(folder)
    assert [query.name for query in failures(queries, 10)] == ["a4", "a3", "a2", "b1"]
    assert [query.name for query in failures(queries, 2)] == ["a4", "a3"]


def test_successes_come_by_margin_one_a_class(folder: Path) -> None:
    with (folder / "queries.csv").open("a") as file:
        file.write("a5,a,2,1,1.0,a2,0.9,a2,a,0.9,b1,b,0.6\n")
    assert [query.name for query in successes(queries_of(folder), 10)] == ["a1", "b2"]


def test_confusions_count_queries_that_have_something_to_find(folder: Path) -> None:
    first, second = confusions(queries_of(folder), 10)
    assert first[:4] == ("a", "b", 3, 4)
    assert [query.name for query in first.examples] == ["a4", "a3", "a2"]
    assert second[:4] == ("b", "a", 1, 2)


def test_a_duplicate_is_listed_once_from_whichever_side_it_is_found(folder: Path) -> None:
    with (folder / "queries.csv").open("a") as file:
        file.write("a3,a,2,3,0.0,a1,0.4,b1,b,0.99995,b1,b,0.99995\n")  # found from b1 already
    found = [{query.name, query.wrong.name} for query in duplicates(queries_of(folder)) if query.wrong]
    assert sorted(map(sorted, found)) == [["a3", "b1"], ["a4", "b1"]]


def test_a_damaged_cell_is_one_sentence(folder: Path) -> None:
    file = folder / "queries.csv"
    file.write_text(file.read_text().replace("0.9,a2", "high,a2"))
    with pytest.raises(UserError, match=r"queries\.csv is damaged \(.*high.*\): evaluate the run again"):
        queries_of(folder)
