"""A study: trials put together over their seeds, with intervals, beside what was published."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from dml.analysis.trials import Ground, Trial, varied
from dml.errors import UserError
from dml.retrieval.intervals import LEVEL, percentile_interval, resampled_means
from dml.runs.queries import NAME, Queries, read_queries
from dml.runs.sweep import TEST, columns_of

RECALL, MAP = "test/recall_at_1", "test/map_at_r"
Interval = Sequence[float]  # lower and upper end
Settings = tuple[str, ...]


class Estimate(NamedTuple):
    """A metric of a cell.

    Attributes:
        values: of each trial.
        interval: 95% over the choice of test classes, of the mean over seeds; None without `queries.csv`.
        behind: that of the difference from the best cell, on the same resamples of classes; None for the best.
        published: what a paper reports, as a share.
    """

    values: list[float]
    interval: Interval | None
    behind: Interval | None
    published: float | None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds, of a sample (n − 1)."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def delta(self) -> float | None:
        """The mean minus the published figure."""
        return None if self.published is None else self.mean - self.published

    @property
    def noise(self) -> float | None:
        """How far one run with another seed may lie from the mean: t · sd · √(1 + 1/n), a 95% prediction interval.

        The published figure is taken for such a run. The test classes are the same, so their choice is not in it.
        """
        n = len(self.values)
        return (
            None if self.sd is None else float(stdtrit(n - 1, (1 + LEVEL) / 2)) * self.sd * (1 + 1 / n) ** 0.5
        )


@dataclass(frozen=True)
class Cell:
    """Trials that agree in all settings but the seed.

    Attributes:
        settings: values of the part's keys, in their order.
        trials: at least one.
        estimates: by metric.
    """

    settings: Settings
    trials: list[Trial]
    estimates: dict[str, Estimate]

    @property
    def collapsed(self) -> int:
        """Number of trials whose embeddings hardly differ."""
        return sum(trial.collapsed for trial in self.trials)

    @property
    def is_collapsed(self) -> bool:
        """Whether all of its trials collapsed, so that none is a result."""
        return self.collapsed == len(self.trials)


@dataclass(frozen=True)
class Part:
    """The cells of one ground: their figures may stand in one column.

    Attributes:
        ground: dataset, protocol and fingerprint of all trials.
        keys: settings that differ.
        metric: that cells are sorted by.
        cells: the best one first; those that collapsed, and then those without the metric, last.
        repeated: trials left out, since an earlier one of their cell has their seed.
    """

    ground: Ground
    keys: list[str]
    metric: str
    cells: list[Cell]
    repeated: list[Trial]

    @property
    def trials(self) -> list[Trial]:
        return [trial for cell in self.cells for trial in cell.trials]


def parts(trials: Iterable[Trial]) -> list[Part]:
    """The trials that have figures, a part for each ground, the largest first.

    Raises:
        UserError: no trial has figures, or trials of one fingerprint have different queries.
    """
    grounds: dict[Ground, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.values:
            grounds[trial.ground].append(trial)
    if not grounds:
        raise UserError("No trial has figures: all of them failed or are not finished.")
    return sorted((part(*item) for item in grounds.items()), key=lambda p: -len(p.trials))


def part(ground: Ground, trials: Sequence[Trial]) -> Part:
    """The cells of one ground, the best first."""
    keys, metric = varied(trials), main_metric(trials)
    kept: dict[Settings, dict[str, Trial]] = defaultdict(dict)
    repeated = []
    for trial in trials:
        cell = kept[tuple(trial.setting(key) for key in keys)]
        if cell.setdefault(trial.seed, trial) is not trial:
            repeated.append(trial)
    groups = sorted(
        ((settings, [*of_cell.values()]) for settings, of_cell in kept.items()),
        key=lambda group: _place(group[1], metric),
    )
    drawn = intervals([of_cell for _, of_cell in groups], metric)
    cells = [
        Cell(settings, of_cell, estimates(of_cell, found))
        for (settings, of_cell), found in zip(groups, drawn, strict=True)
    ]
    return Part(ground, keys, metric, cells, repeated)


def main_metric(trials: Sequence[Trial]) -> str:
    """The metric that most trials have: Recall@1 of the test, else another of the test, else the best validation."""
    counts = Counter(name for trial in trials for name in trial.values)
    names = sorted(columns_of([dict(trial.values) for trial in trials]), key=lambda n: not n.startswith(TEST))
    return max(names, key=lambda name: counts[name])


def _place(trials: Sequence[Trial], metric: str) -> tuple[bool, bool, float]:
    values = [trial.values[metric] for trial in trials if metric in trial.values]
    return not values, all(trial.collapsed for trial in trials), -statistics.fmean(values or [0.0])


def estimates(
    trials: Sequence[Trial], found: Mapping[str, tuple[Interval, Interval | None]]
) -> dict[str, Estimate]:
    """Every metric of a cell."""
    published = {f"{TEST}{name}": value for name, value in trials[0].published.items() if name != "source"}
    names = dict.fromkeys(name for trial in trials for name in trial.values)

    def estimate(name: str) -> Estimate:
        values = [trial.values[name] for trial in trials if name in trial.values]
        interval, behind = found.get(name, (None, None))
        return Estimate(values, interval, behind, published[name] / 100 if name in published else None)

    return {name: estimate(name) for name in names}


def has_queries(trial: Trial) -> bool:
    """Whether its `queries.csv` is there."""
    return (trial.folder / NAME).is_file()


def intervals(
    cells: Sequence[Sequence[Trial]], metric: str
) -> list[dict[str, tuple[Interval, Interval | None]]]:
    """95% intervals over test classes of each cell's metrics, and of their differences from the first cell's.

    A query's values are averaged over the cell's seeds; then classes are resampled, the same ones for all cells.
    Another seed is not in them.

    Args:
        cells: trials of each, the best cell first.
        metric: the only one with differences.
    """
    means = {n: mean_queries(trials) for n, trials in enumerate(cells) if all(map(has_queries, trials))}
    found: list[dict[str, tuple[Interval, Interval | None]]] = [{} for _ in cells]
    if not means:
        return found
    first = next(iter(means.values()))
    if any(not np.array_equal(q.class_Q, first.class_Q) for q in means.values()):
        raise UserError(
            "Trials of one split have different queries: evaluate them again with one version of dml."
        )
    counted_Q = first.has_positive
    class_Q = first.class_Q[counted_Q]
    classes = len(np.unique(class_Q))
    if classes < 2:
        return found
    columns = [(n, name) for n, q in means.items() for name in q.values]
    mean_SX = resampled_means(
        np.stack([means[n].values[name][counted_Q] for n, name in columns], axis=1), class_Q
    )
    end_X2 = percentile_interval(mean_SX, classes)
    main = metric.removeprefix(TEST)
    best = columns.index((0, main)) if (0, main) in columns else None
    for x, (n, name) in enumerate(columns):
        behind = None
        if n and best is not None and name == main:
            behind = percentile_interval(mean_SX[:, [x]] - mean_SX[:, [best]], classes)[0].tolist()
        found[n][TEST + name] = end_X2[x].tolist(), behind
    return found


def mean_queries(trials: Sequence[Trial]) -> Queries:
    """The queries of a cell, each value the mean over the seeds."""
    read = [read_queries(trial.folder).sorted() for trial in trials]
    first = read[0]
    names = [name for name in first.values if all(name in queries.values for queries in read)]
    values = {name: np.mean([queries.values[name] for queries in read], axis=0) for name in names}
    return Queries([], first.class_Q, first.has_positive, values)
