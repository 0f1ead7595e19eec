"""Sweeps over seeds as one Markdown table: mean ± standard deviation (number of seeds) of the test metrics.

    python scripts/summarize_sweep.py multirun/2026-01-31/12-00-00 … --out results.md
    python scripts/summarize_sweep.py multirun/… --rows mining --columns weighting

Reads `sweep.csv` of each folder. Trials that agree in every override but `seed` are one entry; the best comes first.
The standard deviation is that of a sample (n − 1), and is left out for a single trial. Failed trials are left out and
counted below the table. Overrides that are the same in all trials are not shown.
"""

import argparse
import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

METRICS = {"test/recall_at_1": "Recall@1", "test/map_at_r": "MAP@R"}
Trial = dict[str, str]
Entry = dict[str, list[float]]  # the values of each metric, one a trial
Entries = dict[tuple[str, ...], Entry]


def read(folders: Iterable[Path]) -> list[Trial]:
    """All trials of all sweeps.

    Raises:
        FileNotFoundError: a folder holds no `sweep.csv`.
    """
    trials = []
    for folder in folders:
        file = folder / "sweep.csv"
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is missing: give the folder of a finished sweep (dml.train -m …)."
            )
        with file.open(newline="") as stream:
            trials += list(csv.DictReader(stream))
    return trials


def varied(trials: Sequence[Trial]) -> list[str]:
    """Overrides, `seed` left aside, that are not the same in all trials."""
    names = dict.fromkeys(name for trial in trials for name in trial)
    fixed = {"trial", "seed", "error", "collapsed"}
    return [
        name
        for name in names
        if name not in fixed
        and not name.startswith("test/")
        and len({trial.get(name) or "" for trial in trials}) > 1
    ]


def group(trials: Sequence[Trial], names: Sequence[str]) -> Entries:
    """Metrics of the trials that agree in all of `names`."""
    entries: Entries = defaultdict(lambda: {metric: [] for metric in METRICS})
    for trial in trials:
        for metric in METRICS:
            if trial.get(metric):
                entries[tuple(trial.get(name) or "–" for name in names)][metric].append(float(trial[metric]))
    return dict(entries)


def recall(entry: Entry) -> float:
    """What entries are sorted by."""
    return statistics.fmean(entry["test/recall_at_1"] or [-1.0])


def cell(values: Sequence[float]) -> str:
    """Mean ± standard deviation (n)."""
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread} ({len(values)})"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listing(trials: Sequence[Trial]) -> str:
    """One row an entry, the best Recall@1 first."""
    names = varied(trials)
    entries = sorted(group(trials, names).items(), key=lambda item: -recall(item[1]))
    return markdown(
        [*names, *METRICS.values()],
        ([*key, *(cell(entry[metric]) for metric in METRICS)] for key, entry in entries),
    )


def crossed(trials: Sequence[Trial], rows: str, columns: str) -> Entries:
    """Metrics of the trials that agree in two overrides.

    Raises:
        ValueError: no trial has one of the two, or another override varies and would be mixed up.
    """
    others = [name for name in varied(trials) if name not in (rows, columns)]
    if others:
        raise ValueError(f"{', '.join(others)} varies, too: give only folders in which it does not.")
    for name in (rows, columns):
        if not any(trial.get(name) for trial in trials):
            raise ValueError(f"No trial overrides {name}.")
    return group(trials, (rows, columns))


def pivot(trials: Sequence[Trial], rows: str, columns: str, metric: str = "test/recall_at_1") -> str:
    """One override down, another across; rows and columns by their best entry.

    Raises:
        ValueError: from `crossed`.
    """
    entries = crossed(trials, rows, columns)
    ranked = sorted(entries, key=lambda key: -recall(entries[key]))
    down, across = (list(dict.fromkeys(key[place] for key in ranked)) for place in (0, 1))
    body = (
        [row, *(cell(entries[row, column][metric] if (row, column) in entries else []) for column in across)]
        for row in down
    )
    return markdown([f"{rows} \\ {columns}", *across], body)


def summary(trials: Sequence[Trial], rows: str | None, columns: str | None) -> str:
    """The whole text: the table or tables, and how many trials failed."""
    if rows and columns:
        tables = [f"{METRICS[metric]}\n\n{pivot(trials, rows, columns, metric)}" for metric in METRICS]
    else:
        tables = [listing(trials)]
    failed = sum(not trial.get("test/recall_at_1") for trial in trials)
    if failed:
        tables.append(f"{failed} of {len(trials)} trials failed and are left out.")
    if collapsed := sum(bool(trial.get("collapsed")) for trial in trials):
        tables.append(
            f"{collapsed} of {len(trials)} trials collapsed; their figures, which are no result, count above."
        )
    return "\n\n".join(tables) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders of sweeps, each with a sweep.csv")
    parser.add_argument("--rows", help="override that goes down, e.g. mining")
    parser.add_argument("--columns", help="override that goes across, e.g. weighting")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args(arguments)
    if (asked.rows is None) != (asked.columns is None):
        parser.error("--rows and --columns go together")
    try:
        text = summary(read(asked.folders), asked.rows, asked.columns)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"Error: {error}")
    print(text, end="")
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
