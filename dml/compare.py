"""Compare runs on the same test queries: is one better than the other, and where?

    python -m dml.compare outputs/A outputs/B
    python -m dml.compare outputs/A outputs/B/checkpoints/best.ckpt outputs/C --out comparison

Writes comparison.md, .csv and .tex, and comparison.png: queries that only the first run gets right, and
queries that only the second does.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dml.config.cli import one_sentence
from dml.runs.folder import new_folder


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dml.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder or best checkpoint of a run"
    )
    parser.add_argument("--out", type=Path, help="folder to write to; default: a new one in outputs/compare")
    parser.add_argument("--trust", nargs="+", default=[], help="your own modules, as in dml.evaluate")
    given = parser.parse_args(argv)
    with one_sentence():
        from dml.analysis.comparison import read_runs  # imports torch
        from dml.analysis.comparison_report import write_comparison

        runs = read_runs(given.runs)
        folder = given.out or Path(new_folder("outputs/compare/%Y-%m-%d/%H-%M-%S"))
        write_comparison(runs, folder, given.trust)
        print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
