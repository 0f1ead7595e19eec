"""Whether one run is better than another: paired differences of their metrics on the same queries."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

import numpy as np

from dml.errors import UserError
from dml.retrieval.intervals import percentile_interval, resampled_means
from dml.runs.queries import Queries, read_queries


class Run(NamedTuple):
    """A run or an evaluation to compare.

    Attributes:
        folder: that holds `metrics.json` and `queries.csv`.
        fingerprint: of its split.
        queries: sorted by name.
    """

    folder: Path
    fingerprint: str
    queries: Queries


class Figure(NamedTuple):
    """One metric of one run, beside that of the first.

    Attributes:
        metric: its name.
        run: position of the run.
        value, low, high: the mean and its 95% interval.
        difference, difference_low, difference_high: this run's mean minus the first run's; NaN for the first.
    """

    metric: str
    run: int
    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float

    @property
    def verdict(self) -> str:
        """What the interval of the difference says."""
        if np.isnan(self.difference):
            return ""
        if self.difference_low > 0 or self.difference_high < 0:
            return "better" if self.difference > 0 else "worse"
        return "undecided"


def read_run(path: str | Path) -> Run:
    """The run of a folder, or of the checkpoint that the run chose as its best.

    Raises:
        UserError: the folder lacks `metrics.json` or `queries.csv`, or the checkpoint is another one of its run.
    """
    path = Path(path)
    folder = path.parent.parent if path.is_file() else path
    file = folder / "metrics.json"
    if not path.exists():
        raise UserError(f"{path} is not there: give the folder of a run or of an evaluation.")
    if not file.is_file():
        raise UserError(f"{path} holds no metrics.json: give the folder of a run or of an evaluation.")
    try:
        figures: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): evaluate the run again.") from None
    if "fingerprint" not in figures:
        raise UserError(f"{file} is that of a run that failed: it has no figures to compare.")
    if path.is_file() and (folder / str(figures.get("checkpoint"))).resolve() != path.resolve():
        raise UserError(f"{path} is not what {file} is about: python -m dml.evaluate ckpt_path={path} first.")
    return Run(folder, figures["fingerprint"], read_queries(folder).sorted())


def read_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Runs that were tested on the same queries.

    Raises:
        UserError: fewer than two, or of different splits or queries; see also `read_run`.
    """
    if len(paths) < 2:
        raise UserError("A comparison needs at least two runs: python -m dml.compare A B.")
    first, *others = runs = [read_run(path) for path in paths]
    for run in others:
        if run.fingerprint != first.fingerprint:
            raise UserError(
                f"{run.folder} was tested on another split than {first.folder} (fingerprints {run.fingerprint} and "
                f"{first.fingerprint}): only runs of the same images, classes and roles can be compared."
            )
        names, other = ([row["name"] for row in each.queries.rows] for each in (first, run))
        if names != other or (run.queries.class_Q != first.queries.class_Q).any():
            raise UserError(
                f"{run.folder} has other queries than {first.folder}, though the split is the same."
            )
    return runs


def compare(runs: Sequence[Run]) -> list[Figure]:
    """Each metric that all runs have, of each run, with the difference from the first run's.

    Intervals are those of a bootstrap over classes; all runs share its draws, so that differences are paired:
    what makes a class hard for both runs cancels. They do not cover another seed of training.

    Args:
        runs: at least two, of the same queries.
    """
    first = runs[0].queries
    counted_Q = first.has_positive
    metrics = [name for name in first.values if all(name in run.queries.values for run in runs)]
    value_RMQ = np.array([[run.queries.values[name][counted_Q] for name in metrics] for run in runs])
    classes = len(np.unique(first.class_Q[counted_Q]))
    if classes < 2:
        raise UserError(f"{runs[0].folder} has queries of one class: an interval needs at least two.")
    mean_RM = value_RMQ.mean(axis=2)
    flat_QX = value_RMQ.reshape(-1, value_RMQ.shape[2]).T
    mean_SRM = resampled_means(flat_QX, first.class_Q[counted_Q]).reshape(-1, *mean_RM.shape)

    def figure(m: int, r: int) -> Figure:
        low, high = percentile_interval(mean_SRM[:, [r], m], classes)[0].tolist()
        own = metrics[m], r, float(mean_RM[r, m]), low, high
        if r == 0:
            return Figure(*own, *[np.nan] * 3)
        ends = percentile_interval(mean_SRM[:, [r], m] - mean_SRM[:, [0], m], classes)[0].tolist()
        return Figure(*own, float(mean_RM[r, m] - mean_RM[0, m]), *ends)

    return [figure(m, r) for m in range(len(metrics)) for r in range(len(runs))]


@dataclass(frozen=True)
class Disagreement:
    """How many queries two runs answer differently at Recall@1.

    Attributes:
        both, neither: number of queries that both, and that neither, get right.
        first_only, second_only: positions of the queries that only one run gets right.
    """

    both: int
    neither: int
    first_only: list[int]
    second_only: list[int]


def disagreement(first: Run, second: Run) -> Disagreement:
    """Which queries one run gets right at Recall@1 and the other does not."""
    counted_Q = first.queries.has_positive
    right_Q, other_Q = (run.queries.values["recall_at_1"] == 1 for run in (first, second))
    return Disagreement(
        int((right_Q & other_Q & counted_Q).sum()),
        int((~right_Q & ~other_Q & counted_Q).sum()),
        np.flatnonzero(right_Q & ~other_Q & counted_Q).tolist(),
        np.flatnonzero(~right_Q & other_Q & counted_Q).tolist(),
    )


def letter(run: int) -> str:
    """Name of a run in tables by its position: A, B, …, Z, 27, 28, …"""
    return ascii_uppercase[run] if run < len(ascii_uppercase) else str(run + 1)
