"""Which queries a report shows: read from `queries.csv`, failures first."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dml.errors import UserError
from dml.runs.queries import NAME, read_queries

DUPLICATE = 0.9999  # cosine similarity from which two images count as the same


class Match(NamedTuple):
    """An image that a query found.

    Attributes:
        name: identifies the image.
        label: name of its class.
        similarity: to the query, in [−1, 1].
    """

    name: str
    label: str
    similarity: float


class Query(NamedTuple):
    """A query of a test; see `dml.runs.queries`.

    Attributes:
        name: identifies the image.
        label: name of its class.
        first_right_rank: rank of the nearest image of its class, from 1; None where its class has no other image.
        right: most similar image of its class.
        nearest: most similar image of all; the wrong one in a tie.
        wrong: most similar image of another class.
    """

    name: str
    label: str
    first_right_rank: int | None
    right: Match | None
    nearest: Match | None
    wrong: Match | None

    @property
    def margin(self) -> float:
        """Similarity of the right image minus that of the wrong one; negative in a failure."""
        return (self.right.similarity if self.right else 0.0) - (self.wrong.similarity if self.wrong else 0.0)


def queries_of(folder: Path) -> list[Query]:
    """The queries of a test, in its order.

    Raises:
        UserError: the folder holds no `queries.csv`, or it is damaged.
    """
    rows = read_queries(folder).rows
    try:
        return [_query(row) for row in rows]
    except ValueError as error:
        raise UserError(f"{folder / NAME} is damaged ({error}): evaluate the run again.") from None


def _query(row: dict[str, str]) -> Query:
    def match(kind: str, label: str) -> Match | None:
        similarity = row[f"{kind}_similarity"]
        return Match(row[f"{kind}_name"], label, float(similarity)) if similarity else None

    rank = row["first_right_rank"]
    return Query(
        row["name"],
        row["class"],
        int(rank) if rank else None,
        match("right", row["class"]),
        match("nearest", row["nearest_class"]),
        match("wrong", row["wrong_class"]),
    )


def failures(queries: Sequence[Query], count: int) -> list[Query]:
    """The queries whose nearest right image ranks last, of equal ranks those that prefer the wrong one most."""
    failed = [q for q in queries if q.first_right_rank is not None and q.first_right_rank > 1]
    return sorted(failed, key=lambda q: (-(q.first_right_rank or 0), q.margin))[:count]


def successes(queries: Sequence[Query], count: int) -> list[Query]:
    """The classes' queries with the largest margin of a right nearest image over a wrong one, one a class."""
    largest = sorted((q for q in queries if q.first_right_rank == 1), key=lambda q: q.margin)
    of_class = {query.label: query for query in largest}
    return sorted(of_class.values(), key=lambda q: -q.margin)[:count]


class Confusion(NamedTuple):
    """A class whose queries find images of another one.

    Attributes:
        label: class of the queries.
        other: class of their nearest images.
        mistaken: number of such queries.
        judged: number of all queries of the class that have a right image.
        examples: those of them with the most similar nearest images.
    """

    label: str
    other: str
    mistaken: int
    judged: int
    examples: list[Query]


def confusions(queries: Sequence[Query], count: int, examples: int = 3) -> list[Confusion]:
    """The pairs of classes that are confused most often."""
    judged = [q for q in queries if q.first_right_rank is not None and q.nearest]
    sizes = Counter(q.label for q in judged)
    wrong: dict[tuple[str, str], list[Query]] = {}
    for query in judged:
        if query.nearest and query.nearest.label != query.label:
            wrong.setdefault((query.label, query.nearest.label), []).append(query)
    largest = sorted(wrong.items(), key=lambda item: (-len(item[1]), item[0]))[:count]
    return [
        Confusion(*pair, len(found), sizes[pair[0]], sorted(found, key=_similarity, reverse=True)[:examples])
        for pair, found in largest
    ]


def _similarity(query: Query) -> float:
    return query.nearest.similarity if query.nearest else -1.0


def duplicates(queries: Sequence[Query]) -> list[Query]:
    """Queries with an image of another class that is all but the same, each pair once, most similar first."""
    pairs = {
        frozenset((q.name, q.wrong.name)): q
        for q in reversed(queries)
        if q.wrong and q.wrong.similarity >= DUPLICATE
    }
    return sorted(pairs.values(), key=lambda q: (q.margin, q.name))
