"""The table at the end of a sweep."""

import csv
import json
from pathlib import Path

from omegaconf import OmegaConf

from dml.sweep import read_trials, write_csv


def trial(folder: Path, number: int, overrides: list[str], figures: dict | None) -> None:
    (folder / str(number) / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), folder / str(number) / ".hydra" / "overrides.yaml")
    if figures is not None:
        (folder / str(number) / "metrics.json").write_text(json.dumps(figures))


def test_trials_are_sorted_by_recall_and_failed_ones_come_last(tmp_path):
    trial(tmp_path, 0, ["loss.alpha=1"], {"test/recall_at_1": 0.5, "steps": 3})
    trial(tmp_path, 1, ["loss.alpha=2"], {"test/recall_at_1": 0.7})
    trial(tmp_path, 2, ["loss.alpha=-1"], {"error": "UserError: loss.alpha must be positive"})
    trial(tmp_path, 3, ["loss.alpha=3"], None)
    rows = read_trials(tmp_path)
    assert [row["loss.alpha"] for row in rows] == ["2", "1", "-1", "3"]
    assert [row.get("error", "")[:9] for row in rows[2:]] == ["UserError", "did not f"]

    write_csv(rows, tmp_path / "sweep.csv")
    with (tmp_path / "sweep.csv").open() as stream:
        read = list(csv.DictReader(stream))
    assert read[0] == {"trial": "1", "loss.alpha": "2", "test/recall_at_1": "0.7", "error": ""}
