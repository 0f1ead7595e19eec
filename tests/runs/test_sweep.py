"""The table at the end of a sweep."""

import csv
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from dml.callbacks.retrieval_grid import RetrievalGrid
from dml.runs.sweep import SweepTable, best_first, print_trials, read_trials, write_trials


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
    rows = best_first(read_trials(tmp_path))
    assert [row["loss.alpha"] for row in rows] == ["2", "1", "-1", "3"]
    assert [row.get("error", "")[:9] for row in rows[2:]] == ["UserError", "did not f"]

    write_trials(rows, tmp_path / "sweep.csv")
    with (tmp_path / "sweep.csv").open() as stream:
        read = list(csv.DictReader(stream))
    assert read[0] == {"trial": "1", "loss.alpha": "2", "test/recall_at_1": "0.7", "error": ""}


def test_a_collapsed_trial_is_marked_and_comes_after_all_that_are_a_result(tmp_path, monkeypatch, capsys):
    trial(tmp_path, 0, ["loss.alpha=1"], {"test/recall_at_1": 0.9, "collapsed": True})
    trial(tmp_path, 1, ["loss.alpha=2"], {"test/recall_at_1": 0.1})
    trial(tmp_path, 2, ["loss.alpha=3"], {"error": "UserError: no."})
    rows = best_first(read_trials(tmp_path))
    assert [row["trial"] for row in rows] == ["1", "0", "2"]
    text, headings = printed(rows, 80, monkeypatch, capsys)
    assert headings == ["trial", "loss.alpha", "collapsed", "recall_at_1"]
    assert [line.split()[5] for line in text.splitlines() if line.startswith("│")] == ["–", "True", "–"]
    write_trials(rows, tmp_path / "sweep.csv")
    with (tmp_path / "sweep.csv").open() as stream:
        assert [row["collapsed"] for row in csv.DictReader(stream)] == ["", "True", ""]


METRICS = {f"test/{name}": 0.98765 for name in ("map_at_r", "nmi", "r_precision")}
METRICS |= {f"test/recall_at_{k}": 0.98765 for k in (1, 16, 2, 4, 8)}


def grid(folder: Path) -> list[dict]:
    """Three trials of two mining rules, one of which failed."""
    trial(folder, 0, ["mining=distance_weighted", "seed=0", "dataset=digits"], METRICS)
    trial(folder, 1, ["mining=relative", "seed=1", "dataset=digits"], METRICS)
    trial(folder, 2, ["mining=nothing", "seed=2", "dataset=digits"], {"error": "UserError: no.\ndetails"})
    return best_first(read_trials(folder))


def printed(
    rows: list[dict], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[str, list[str]]:
    """All that is printed in a terminal of so many columns, and the table's headings."""
    monkeypatch.setenv("COLUMNS", str(width))
    print_trials(rows, "3 trials")
    text = capsys.readouterr().out
    return text, [cell.strip() for cell in text.splitlines()[2].strip("┃").split("┃")]


def test_all_columns_where_there_is_room_recall_at_1_after_the_overrides(tmp_path, monkeypatch, capsys):
    text, headings = printed(grid(tmp_path), 200, monkeypatch, capsys)
    recalls = [f"recall_at_{k}" for k in (1, 2, 4, 8, 16)]
    assert headings == ["trial", "mining", "seed", *recalls, "map_at_r", "nmi", "r_precision"]
    assert "Left out" not in text
    assert text.endswith("Trial 2 failed: UserError: no.\n")


def test_a_narrow_terminal_leaves_columns_out_and_cuts_none(tmp_path, monkeypatch, capsys):
    text, headings = printed(grid(tmp_path), 80, monkeypatch, capsys)
    assert headings == ["trial", "mining", "seed", "recall_at_1", "recall_at_2", "recall_at_4"]
    assert "in sweep.csv: recall_at_8, recall_at_16, map_at_r, nmi, r_precision." in text
    assert "distance_weighted" in text
    assert "…" not in text
    assert max(map(len, text.splitlines()[1:-2])) <= 80


def test_a_very_narrow_terminal_keeps_the_overrides_and_recall_at_1(tmp_path, monkeypatch, capsys):
    text, headings = printed(grid(tmp_path), 40, monkeypatch, capsys)
    assert len(headings) == 4
    assert "…" not in text


def test_a_single_trial_shows_its_overrides(tmp_path, monkeypatch, capsys):
    trial(tmp_path, 0, ["loss.alpha=1"], METRICS)
    _, headings = printed(read_trials(tmp_path), 80, monkeypatch, capsys)
    assert headings[:3] == ["trial", "loss.alpha", "recall_at_1"]


@pytest.mark.parametrize(
    ("figures", "code"), [([METRICS], 0), ([METRICS, {"error": "no"}], 1), ([{"error": "no"}], 1)]
)
def test_a_sweep_exits_with_1_if_a_trial_failed(tmp_path, figures, code):
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    for number, of_trial in enumerate(figures):
        trial(tmp_path, number, [], of_trial)
    with pytest.raises(SystemExit) if code else nullcontext() as caught:
        SweepTable().on_multirun_end(config)
    assert code == 0 or caught.value.code == code


def test_trials_in_nested_folders_are_found(tmp_path):
    trial(tmp_path / "digits", 0, ["dataset=digits"], METRICS)
    assert [row["trial"] for row in read_trials(tmp_path)] == ["digits/0"]


STOPPED = """
import os, signal, sys
from omegaconf import OmegaConf
from dml.runs.sweep import SweepTable
table = SweepTable()
table.on_multirun_start(OmegaConf.create({"hydra": {"sweep": {"dir": "."}}}))
table.rows.append({"trial": "0", "test/recall_at_1": 0.5})
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
signal.pause()
"""


@pytest.mark.parametrize(("how", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_sweep_that_is_stopped_writes_the_table_of_what_is_done(tmp_path, how, code):
    path = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", STOPPED, how]
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, timeout=100)
    assert done.returncode == code
    assert "1 trials, best Recall@1 first" in done.stdout
    assert done.stderr == ""
    assert (tmp_path / "sweep.csv").read_text().split() == ["trial,test/recall_at_1", "0,0.5"]


SHORT = (
    "debug=fast",
    "trainer=cpu",
    "model.embedding_dim=8",
    "dataset.canvas=8",
    "callbacks.recall.nmi=false",
)
PLAIN = (*SHORT, "callbacks.retrieval_grid=null")


class BrokenGrid(RetrievalGrid):
    """A picture whose code has a bug."""

    def draw(self, trainer: pl.Trainer) -> Figure:
        raise KeyError("a bug")


def test_a_bug_in_a_trials_picture_is_told_beside_its_figures(tmp_path, typed):
    swept = [*SHORT, f"hydra.sweep.dir={tmp_path}"]
    done = typed("dml.train", "-m", *swept, f"callbacks.retrieval_grid._target_={__name__}.BrokenGrid")
    assert done.code == 1, done.err
    figures = json.loads((tmp_path / "0" / "metrics.json").read_text())
    assert figures["test/recall_at_1"] > 0
    assert figures["error"] == "KeyError: 'a bug'"
    assert "Traceback" in done.out  # by the log
    assert "Trial 0 failed: KeyError: 'a bug'" in done.out


class Seen(Callback):
    """Prints what a sweeper is given of a trial."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: object) -> None:
        print("returned", job_return.return_value)


def test_a_sweeper_gets_the_validation_recall_of_each_trial(tmp_path, typed):
    swept = [*PLAIN, "seed=0", "optimizer.lr=1e-3,-1", f"hydra.sweep.dir={tmp_path}"]
    done = typed("dml.train", "-m", *swept, f"+hydra.callbacks.seen._target_={__name__}.Seen")
    returned = [line.split()[1] for line in done.out.splitlines() if line.startswith("returned")]
    figures = json.loads((tmp_path / "0" / "metrics.json").read_text())
    assert returned == [str(figures["val/best_recall_at_1"]), "None"], done.err


def test_a_sweep_started_again_skips_what_is_finished_and_resumes_no_other_trial(tmp_path, typed):
    def sweep(seeds: str, *more: str) -> Any:
        swept = [*PLAIN, "resume=auto", f"seed={seeds}", f"hydra.sweep.dir={tmp_path}"]
        return typed("dml.train", "-m", *swept, *more)

    def kept(folder: str) -> dict[str, tuple[int, bytes]]:
        files = [*tmp_path.glob(f"{folder}/*.*"), *tmp_path.glob(f"{folder}/checkpoints/*")]
        return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files if file.is_file()}

    sweep("0,1")
    finished, other = kept("0"), kept("1")
    assert {"metrics.json", "last.ckpt"} <= finished.keys()
    (tmp_path / "sweep.csv").unlink()
    again = sweep("0,2")
    assert f"{tmp_path / '0'} is finished: skipped." in again.out
    assert kept("0") == finished
    assert (
        "holds a trial with other settings, seed=2 (was 1): resume a sweep by the same command" in again.out
    )
    assert again.code == 1
    assert kept("1/older")["metrics.json"][1] == other["metrics.json"][1]
    assert kept("1")["last.ckpt"] == other["last.ckpt"]
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [row["seed"] for row in rows if row["test/recall_at_1"]] == ["0"]
    assert "cannot resume with protocol" in sweep("0", "protocol=holdout").out
    assert kept("0/older")["metrics.json"][1] == finished["metrics.json"][1]
