"""What a study of dml.tune costs beside as many bare runs of dml.train with the same values.

python scripts/benchmark_tune.py --trials 16 trainer=cpu trainer.max_steps=60 report=false
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a command and of what it starts."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("overrides", nargs="*", help="of dml.train")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        study = ["dml.tune", *given.overrides, f"tune.trials={given.trials}", "tune.pruner=null"]
        wall, processor = seconds([*study, f"hydra.run.dir={folder}/study"])
        bare_wall = bare_processor = 0.0
        with Path(folder, "study", "trials.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            values = [f"{key}={value}" for key, value in row.items() if "." in key]
            run = ["dml.train", *given.overrides, *values, "protocol=holdout"]
            spent = seconds([*run, f"hydra.run.dir={folder}/bare/{row['trial']}"])
            bare_wall, bare_processor = bare_wall + spent[0], bare_processor + spent[1]
    print(f"{len(rows)} trials, {os.cpu_count()} cores")
    print(f"dml.tune, with the test of the best: {wall:.0f} s, {processor:.0f} s of processor")
    print(f"as many runs of dml.train: {bare_wall:.0f} s, {bare_processor:.0f} s of processor")
    print(f"ratio: {wall / bare_wall:.2f} of wall time, {processor / bare_processor:.2f} of processor time")


if __name__ == "__main__":
    main()
