"""The report of a run, or of a study.

    python -m dml.report outputs/A                     # the run's report.html again, from the files in its folder
    python -m dml.report multirun/…                    # a sweep, a tuning study, or several runs: study.html
    python -m dml.report multirun/… --rows mining --columns weighting

A study's page stands beside the same tables as CSV, Markdown and LaTeX, and the table is printed. Needs no images,
no network and no GPU. `dml.train` and `dml.evaluate` make a run's report the first time.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dml.config.cli import one_sentence
from dml.runs.folder import new_folder

OF_A_RUN = ("metrics.json", "report.json", "queries.csv")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dml.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="of a run, a sweep or a study"
    )
    parser.add_argument("--rows", help="setting that goes down a crossed table, such as mining")
    parser.add_argument("--columns", help="setting that goes across, such as weighting")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="VALUE", help="or KEY=VALUE: to be left out"
    )
    parser.add_argument("--out", type=Path, help="folder for a study's page and tables; default: its own")
    given = parser.parse_args(argv)
    if (given.rows is None) != (given.columns is None):
        parser.error("--rows and --columns go together")
    with one_sentence():
        if len(given.folders) == 1 and any((given.folders[0] / name).is_file() for name in OF_A_RUN):
            # It imports matplotlib: only for a command line that is right.
            from dml.reporting.render import render

            print(render(given.folders[0]))
        else:
            study(given)
    return 0


def study(given: argparse.Namespace) -> None:
    """Print the tables of a study and write its page."""
    from dml.analysis.study import parts
    from dml.analysis.trials import read_study
    from dml.reporting.study import section, write_study

    trials = read_study(given.folders, given.without)
    shown = [section(part, given.rows, given.columns) for part in parts(trials)]
    folder = given.out or given.folders[0]
    if len(given.folders) > 1 and given.out is None:
        folder = Path(new_folder("outputs/study/%Y-%m-%d/%H-%M-%S"))
    print(write_study(folder, shown, trials, given.folders))


if __name__ == "__main__":
    sys.exit(main())
