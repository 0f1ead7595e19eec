"""What each of two overrides explains of a sweep's spread."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPTS))  # as Python does for a script
    spec = importlib.util.spec_from_file_location("share_of_variance", SCRIPTS / "share_of_variance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPTS))
    return module


def written(folder: Path, value) -> str:
    """A sweep of 3 minings × 2 weightings × 2 seeds."""
    rows = [
        f"{mining},{weighting},{seed},{value(mining, weighting, seed)},{value(mining, weighting, seed)}"
        for mining in range(3)
        for weighting in range(2)
        for seed in range(2)
    ]
    header = "mining,weighting,seed,test/recall_at_1,test/map_at_r"
    (folder / "sweep.csv").write_text("\n".join([header, *rows]) + "\n")
    return str(folder)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda m, w, s: 0.1 + 0.1 * m, "| Recall@1 | 100.0% | 0.0% | 0.0% | 0.0% |"),
        (lambda m, w, s: 0.1 + 0.1 * w, "| Recall@1 | 0.0% | 100.0% | 0.0% | 0.0% |"),
        (lambda m, w, s: 0.5 + 0.1 * (m - 1) * (2 * w - 1), "| Recall@1 | 0.0% | 0.0% | 100.0% | 0.0% |"),
        (lambda m, w, s: 0.1 + 0.1 * s, "| Recall@1 | 0.0% | 0.0% | 0.0% | 100.0% |"),
        # Variances 2/3, 1/4 and 1/4 in units of 0.01: 8/14, 3/14, 0, 3/14.
        (lambda m, w, s: 0.1 + 0.1 * (m + w + s), "| Recall@1 | 57.1% | 21.4% | 0.0% | 21.4% |"),
    ],
)
def test_the_shares_of_known_effects(script, tmp_path, capsys, value, expected):
    script.main([written(tmp_path, value), "--rows", "mining", "--columns", "weighting"])
    assert capsys.readouterr().out.splitlines()[2] == expected


def test_shares_add_up_to_one(script):
    assert sum(script.shares(np.random.default_rng(0).random((4, 3, 2)))) == pytest.approx(1)


def test_a_value_may_be_left_out(script, tmp_path, capsys):
    folder = written(tmp_path, lambda m, w, s: 0.1 * w + 0.01 * s + (m == 2) * 0.5)
    script.main([folder, "--rows", "mining", "--columns", "weighting", "--without", "2"])
    assert capsys.readouterr().out.splitlines()[2] == "| Recall@1 | 0.0% | 99.0% | 0.0% | 1.0% |"


def test_a_missing_cell_is_one_sentence(script, tmp_path):
    folder = Path(written(tmp_path, lambda m, w, s: 0.5))
    lines = (folder / "sweep.csv").read_text().splitlines()
    (folder / "sweep.csv").write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(SystemExit, match="3×2 cells have 0, 2"):
        script.main([str(folder), "--rows", "mining", "--columns", "weighting"])
