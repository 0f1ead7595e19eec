"""Make a run's report.html again, from the files in its folder: `python -m dml.report RUN`.

Needs no images, no network and no GPU. `dml.train` and `dml.evaluate` make the report the first time.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dml.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dml.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run or of an evaluation")
    given = parser.parse_args(argv)
    from dml.reporting.render import render  # imports matplotlib: only for a command line that is right

    try:
        print(render(given.run))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
