"""Sweeps over seeds as one table."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / "scripts" / "summarize_sweep.py"
spec = importlib.util.spec_from_file_location("summarize_sweep", FILE)
assert spec is not None
assert spec.loader is not None
summarize_sweep = importlib.util.module_from_spec(spec)
spec.loader.exec_module(summarize_sweep)

SWEEP = """trial,trainer,mining,weighting,seed,test/map_at_r,test/recall_at_1,error
0,cpu,all,power,0,0.30,0.50,
1,cpu,all,power,1,0.40,0.70,
2,cpu,all,linear,0,0.20,0.40,
3,cpu,top_k,power,0,0.50,0.90,
4,cpu,top_k,linear,0,,,UserError: no
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "sweep.csv").write_text(SWEEP)
    return tmp_path


def test_seeds_are_put_together_and_the_best_comes_first(sweep, capsys):
    summarize_sweep.main([str(sweep), "--out", str(sweep / "tables" / "results.md")])
    expected = """| mining | weighting | Recall@1 | MAP@R |
| --- | --- | --- | --- |
| top_k | power | 0.9000 (1) | 0.5000 (1) |
| all | power | 0.6000 ± 0.1414 (2) | 0.3500 ± 0.0707 (2) |
| all | linear | 0.4000 (1) | 0.2000 (1) |

1 of 5 trials failed and are left out.
"""
    assert capsys.readouterr().out == expected
    assert (sweep / "tables" / "results.md").read_text() == expected


def test_two_overrides_across_each_other(sweep, capsys):
    summarize_sweep.main([str(sweep), "--rows", "mining", "--columns", "weighting"])
    assert capsys.readouterr().out.startswith("""Recall@1

| mining \\ weighting | power | linear |
| --- | --- | --- |
| top_k | 0.9000 (1) | – |
| all | 0.6000 ± 0.1414 (2) | 0.4000 (1) |

MAP@R
""")


def test_folders_with_other_columns_go_together(sweep, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "sweep.csv").write_text("trial,loss,test/recall_at_1,test/map_at_r\n0,ms,0.95,0.6\n")
    text = summarize_sweep.summary(summarize_sweep.read([sweep, other]), None, None)
    assert "| – | – | – | ms | 0.9500 (1) | 0.6000 (1) |" in text.splitlines()[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "sweep.csv is missing"),
        (["--rows", "mining", "--columns", "trainer"], "weighting varies, too"),
    ],
)
def test_a_mistake_is_one_sentence(sweep, arguments, said):
    folder = [] if arguments == ["nowhere"] else [str(sweep)]
    with pytest.raises(SystemExit, match=said):
        summarize_sweep.main([*folder, *arguments])
