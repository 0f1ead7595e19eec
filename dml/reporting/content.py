"""What a report shows, from the files of a run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from dml.reporting.figures import BLUE, RIGHT, WRONG, Curve, curves_svg, histogram_svg, weights_svg
from dml.reporting.queries import Query, confusions, duplicates, failures, successes
from dml.runs.loggers import METRICS, whole_rows

FAILURES, SUCCESSES, CONFUSIONS, DUPLICATES = 12, 6, 12, 24
TILES = ("Recall@1", "MAP@R", "R-precision")
NAMES = {"map_at_r": "MAP@R", "r_precision": "R-precision", "mrr": "MRR", "nmi": "NMI", "ami": "AMI"}


class Figure(NamedTuple):
    """A metric of the test.

    Attributes:
        name: as people write it.
        value: in [0, 1].
        interval: lowest and highest value of its 95% interval; None where there is none.
        floors: values of the baselines and their intervals, in their order; None where one lacks it.
        published: what a paper reports; None where the experiment names nothing.
    """

    name: str
    value: float
    interval: Sequence[float] | None
    floors: list[tuple[float | None, Sequence[float] | None]]
    published: float | None


class Panel(NamedTuple):
    """A plot of training: its title and its SVG."""

    title: str
    svg: Markup


def shown(queries: Sequence[Query], collapsed: bool) -> Iterator[str]:
    """Names of the images in a report's lists."""
    listed = [*failures(queries, FAILURES), *successes(queries, SUCCESSES)]
    listed += [] if collapsed else duplicates(queries)[:DUPLICATES]
    listed += [query for confusion in confusions(queries, CONFUSIONS) for query in confusion.examples]
    for query in listed:
        yield query.name
        yield from (match.name for match in (query.right, query.nearest, query.wrong) if match)


def content(
    folder: Path, data: dict[str, Any], metrics: dict[str, Any], queries: Sequence[Query]
) -> dict[str, Any]:
    """What the template shows."""
    collapsed = bool(metrics.get("collapsed"))
    repeated = [] if collapsed else duplicates(queries)
    weights = data["weights"]
    all_figures = list(figures(metrics, data["published"]))
    return {
        "data": data,
        "metrics": metrics,
        "collapsed": collapsed,
        "floors": list(metrics.get("baselines", {})),
        "figures": all_figures,
        "tiles": [figure for figure in all_figures if figure.name in TILES],
        "panels": list(training(folder / METRICS)),
        "queries": len(queries),
        "failed": sum(1 for q in queries if (q.first_right_rank or 0) > 1),
        "failures": failures(queries, FAILURES),
        "successes": successes(queries, SUCCESSES),
        "confusions": confusions(queries, CONFUSIONS),
        "duplicates": repeated[:DUPLICATES],
        "duplicates_found": len(repeated),
        "histogram": Markup(histogram_svg(data["histogram"])),
        "weights": weights and Markup(weights_svg(weights)),
        "colours": colours(data["map"]),
        "height": max((point["at"][1] for point in data["map"]), default=1.0),
        "points": [[p["class"], p["name"], data["images"].get(p["name"], "")] for p in data["map"]],
    }


def figures(metrics: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[Figure]:
    """The test's metrics in their order; shares alone, no counts."""
    intervals = metrics.get("intervals", {})
    names = [name for name in metrics if name.startswith("test/") and "queries_" not in name]
    for metric in sorted((name.removeprefix("test/") for name in names), key=_order):
        floors = [
            (column.get(metric), intervals.get(f"{floor}/{metric}"))
            for floor, column in metrics.get("baselines", {}).items()
        ]
        of_paper = published[metric] / 100 if metric in published else None
        name = f"test/{metric}"
        yield Figure(readable(metric), metrics[name], intervals.get(name), floors, of_paper)


def _order(metric: str) -> tuple[int, int, str]:
    if metric.startswith("recall_at_"):
        return -1, int(metric.removeprefix("recall_at_")), metric
    return list(NAMES).index(metric) if metric in NAMES else len(NAMES), 0, metric


def readable(metric: str) -> str:
    """The name of a metric as people write it."""
    if metric.startswith("recall_at_"):
        return f"Recall@{metric.removeprefix('recall_at_')}"
    return NAMES.get(metric, metric)


def training(file: Path) -> Iterator[Panel]:
    """Plots of what `metrics.csv` holds of training; none where there is no such file."""
    rows = whole_rows(file)[0] if file.is_file() else []

    def curve(label: str, colour: str, column: str) -> list[Curve]:
        found = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
        return [(label, colour, [step for step, _ in found], [y for _, y in found])] if found else []

    for title, curves, marks in (
        ("Training loss", curve("loss", BLUE, "train/loss"), False),
        ("Validation Recall@1", curve("Recall@1", BLUE, "val/recall_at_1"), True),
        ("Mean similarity of pairs in the batch", _both(curve, "similarity"), False),
        ("Share of pairs with a weight", _both(curve, "share"), False),
        ("Overlap of similarities", curve("overlap", BLUE, "pairs/overlap"), False),
        ("Effective dimension", curve("dimension", BLUE, "pairs/effective_dimension"), False),
    ):
        if curves:
            yield Panel(title, Markup(curves_svg(curves, "step", marks)))


def _both(curve: Any, statistic: str) -> list[Curve]:
    return [
        *curve("positive", RIGHT, f"pairs/positive_{statistic}"),
        *curve("negative", WRONG, f"pairs/negative_{statistic}"),
    ]


def colours(points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A colour for each class of the map: hues a golden angle apart, lighter and darker in turn."""
    classes = dict.fromkeys(point["class"] for point in points)
    return {name: f"hsl({i * 137.508 % 360:.0f} 62% {46 + 14 * (i % 2)}%)" for i, name in enumerate(classes)}
