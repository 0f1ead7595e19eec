"""`python -m dml.report` of sweeps: one page and one table of their cells, and what cannot stand in it."""

import csv
import json
import os
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from dml.analysis.variance import shares
from dml.report import main
from dml.retrieval.intervals import class_intervals
from dml.runs.queries import FIRST, LAST

CLASS_Q = np.repeat([f"class {c}" for c in range(8)], 5)
REPORT = {
    "dataset": "toys",
    "fingerprint": "abc",
    "protocol": "paper: as in the papers",
    "steps": 20,
}


def trial(
    folder: Path, *overrides: str, seed: int = 0, right: float = 0.5, queries: bool = True, **more
) -> np.ndarray:
    """A trial of which a share of the queries is right; returns each query's Recall@1."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create([*overrides, f"seed={seed}"]), folder / ".hydra" / "overrides.yaml")
    config = {
        "loss": {"alpha": 2.0, "beta": 40.0, "epsilon": None},
        "model": {"frozen": True, "layers": [1, 2]},
        "published": {"recall_at_1": 50.0, "source": "A & B, 2019"},
    }
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")
    generator = np.random.default_rng([seed, int(1000 * right)])
    right_Q = (generator.permutation(len(CLASS_Q)) < round(right * len(CLASS_Q))).astype(float)
    metrics = {
        **REPORT,
        "seed": seed,
        "test/recall_at_1": right_Q.mean(),
        "test/map_at_r": right_Q.mean() / 2,
    } | more
    (folder / "metrics.json").write_text(json.dumps(metrics))
    ended = (folder / "metrics.json").stat().st_mtime
    os.utime(folder / ".hydra" / "overrides.yaml", (ended, ended - 900))
    if queries:
        with (folder / "queries.csv").open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow([*FIRST, "recall_at_1", *LAST])
            rows.writerows(
                [f"{q:02}", c, 4, 1, v, *["x"] * len(LAST)]
                for q, (c, v) in enumerate(zip(CLASS_Q, right_Q, strict=True))
            )
    return right_Q


def failing(folder: Path, *overrides: str, error: str = "UserError: no.\ndetails") -> None:
    """A trial that failed."""
    trial(folder, *overrides)
    (folder / "metrics.json").write_text(json.dumps({"error": error}))


def grid(sweep: Path, without: tuple[tuple[str, ...], ...] = ()) -> Path:
    """A sweep of 3 alphas, 2 betas and 2 seeds; higher is better."""
    for a, alpha in enumerate(("1", "2", "4.0")):
        for b, beta in enumerate(("20", "40")):
            for seed in range(2):
                number = str(len([*sweep.glob("*")]))
                trial(
                    sweep / number,
                    f"loss.alpha={alpha}",
                    f"loss.beta={beta}",
                    "report=false",
                    seed=seed,
                    right=0.2 + 0.2 * a + 0.1 * b,
                )
    return sweep


def written(folder: Path, metric: str = "test/recall_at_1") -> list[dict[str, str]]:
    """The rows of `study.csv` about a metric."""
    with (folder / "study.csv").open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["metric"] == metric]


class Page(HTMLParser):
    """What a page refers to, and how often each tag is there."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for key, value in attributes if value and key in ("src", "href", "srcset")]


def test_a_cell_is_the_mean_over_seeds_with_the_interval_over_classes(tmp_path, capsys):
    sweep = tmp_path / "sweep"
    values = [trial(sweep / str(s), "loss.alpha=1", seed=s, right=0.7 + 0.05 * s) for s in range(3)]
    trial(sweep / "3", "loss.alpha=2", right=0.1)
    assert main([str(sweep)]) == 0
    best, other = written(sweep)
    means = [value.mean() for value in values]
    interval = class_intervals(np.mean(values, axis=0)[:, None], CLASS_Q)[0]
    assert (best["loss.alpha"], best["n"], best["trials"]) == ("1", "3", "0 1 2")
    assert float(best["mean"]) == pytest.approx(statistics.fmean(means))
    assert float(best["sd"]) == pytest.approx(statistics.stdev(means))
    assert [float(best["low"]), float(best["high"])] == pytest.approx(interval.tolist())
    assert float(other["behind_high"]) < 0
    assert other["sd"] == ""
    # t of 2 degrees of freedom at 97.5% is 4.3027; one further run has the variance (1 + 1/3) sd².
    assert float(best["noise"]) == pytest.approx(4.3027 * statistics.stdev(means) * (4 / 3) ** 0.5, rel=1e-4)
    assert float(best["delta"]) == pytest.approx(statistics.fmean(means) - 0.5)
    printed = capsys.readouterr().out
    assert f"{statistics.fmean(means):.4f} ± {statistics.stdev(means):.4f} (3)" in printed
    assert (best["steps"], best["hours"]) == ("20", "0.25")
    assert printed.endswith(f"{sweep / 'study.html'}\n")


def test_tables_and_page_have_the_same_cells_and_the_page_stands_alone(tmp_path):
    sweep = grid(tmp_path / "sweep")
    main([str(sweep)])
    rows = [
        line.split(" | ") for line in (sweep / "study.md").read_text().splitlines() if line.startswith("| ")
    ]
    assert len([row for row in rows if row[0] in ("| 1", "| 2", "| 4")]) == 6
    tex = (sweep / "study.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 2
    assert not re.search(r"(?<!\\)[%&#_](?=[^ ])", tex.partition(r"\toprule")[2].partition(r"\bottomrule")[0])
    page = Page(sweep / "study.html")
    assert page.tags.count("svg") == 2  # alpha and beta
    assert page.tags.count("table") == 3  # cells, shares of variance, alpha × beta
    assert {link[0] for link in page.links} <= {"d", "#"}
    text = (sweep / "study.html").read_text()
    assert "A &amp; B, 2019" in text


def test_settings_that_one_sweep_leaves_out_are_read_from_its_configuration(tmp_path):
    trial(tmp_path / "a/0", "loss.alpha=1", right=0.2)
    trial(tmp_path / "a/1", "loss.alpha=2", right=0.8)
    trial(tmp_path / "b/0", "loss.beta=40", seed=1, right=0.8)
    trial(tmp_path / "b/1", "loss.beta=60", right=0.6)
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")])
    found = [(row["loss.alpha"], row["loss.beta"], row["n"]) for row in written(tmp_path / "out")]
    assert found == [("2", "40", "2"), ("2", "60", "1"), ("1", "40", "1")]


def test_a_value_typed_and_the_same_value_left_out_are_one_cell(tmp_path):
    trial(tmp_path / "0", "model.frozen=true", "model.layers=[1,2]", "loss.epsilon=null", seed=0)
    trial(tmp_path / "1", seed=1)
    trial(tmp_path / "2", "model.frozen=false", right=0.1)
    main([str(tmp_path)])
    assert [(row["model.frozen"], row["n"]) for row in written(tmp_path)] == [("true", "2"), ("false", "1")]


def test_values_that_differ_in_a_late_digit_are_two_cells(tmp_path):
    trial(tmp_path / "0", "loss.alpha=0.5000012", right=0.4)
    trial(tmp_path / "1", "loss.alpha=0.5000034", right=0.6)
    main([str(tmp_path)])
    assert [row["loss.alpha"] for row in written(tmp_path)] == ["0.5000034", "0.5000012"]


def test_other_splits_and_protocols_never_share_a_column(tmp_path, capsys):
    trial(tmp_path / "0", "loss.alpha=1")
    trial(tmp_path / "1", "loss.alpha=2", fingerprint="def")
    trial(tmp_path / "2", "loss.alpha=2", protocol="holdout: seen once")
    main([str(tmp_path)])
    assert "NOT COMPARABLE: these trials have 2 protocols and 2 fingerprints" in capsys.readouterr().out
    assert (tmp_path / "study.md").read_text().count("| Recall@1 |") == 3
    assert "NOT COMPARABLE" in (tmp_path / "study.html").read_text()


def test_what_failed_collapsed_or_came_twice_is_named(tmp_path, capsys):
    trial(tmp_path / "0", "loss.alpha=1", right=0.9, collapsed=True)
    trial(tmp_path / "1", "loss.alpha=2", right=0.4, queries=False)
    trial(tmp_path / "2", "+loss.alpha=2.0", right=0.4)
    failing(tmp_path / "3", "loss.alpha=-1")
    failing(tmp_path / "4", "loss.alpha=-2")
    (tmp_path / "5" / ".hydra").mkdir(parents=True)
    (tmp_path / "5" / ".hydra" / "overrides.yaml").write_text("[]")
    main([str(tmp_path)])
    said = " ".join(capsys.readouterr().out.split())
    assert "Left out: 3, 4: UserError: no. Left out: 5: did not finish" in said
    assert "the same settings and the same seed: 2." in said
    assert "no result but count above: 0." in said
    assert "1 of 2 trials have no queries.csv" in said
    assert [(row["loss.alpha"], row["low"] != "") for row in written(tmp_path)] == [("2", False), ("1", True)]


def test_cells_of_other_seeds_are_warned_of(tmp_path, capsys):
    for number, (alpha, seed) in enumerate([(1, 0), (1, 1), (2, 0), (2, 1)]):
        trial(tmp_path / str(number), f"loss.alpha={alpha}", seed=seed)
    main([str(tmp_path)])
    assert "Not all cells have the same seeds" not in capsys.readouterr().out
    main([str(tmp_path / number) for number in "012"])
    assert "Not all cells have the same seeds" in capsys.readouterr().out


def test_the_table_of_a_sweep_may_be_all_that_is_left(tmp_path):
    table = "trial,mining,seed,test/recall_at_1,error\n0,all,0,0.5,\n1,all,1,0.7,\n2,top_k,0,,no\n"
    (tmp_path / "sweep.csv").write_text(table)
    main([str(tmp_path)])
    [cell] = written(tmp_path)
    assert (float(cell["mean"]), cell["n"], cell["low"]) == (pytest.approx(0.6), "2", "")


@pytest.mark.parametrize("without", ["1", "loss.alpha=1.0"])
def test_two_settings_across_each_other_and_without_a_value(tmp_path, capsys, without):
    sweep = grid(tmp_path / "sweep")
    crossed = ["--rows", "loss.beta", "--columns", "loss.alpha"]
    main([str(sweep), *crossed, "--without", without, "--out", str(tmp_path / "out")])
    lines = (tmp_path / "out" / "study.md").read_text().splitlines()
    assert lines[2].replace(" ", "") == r"|loss.beta\loss.alpha|4|2|"
    assert [line.split(" | ")[0] for line in lines[4:6]] == ["| 40", "| 20"]
    trial(sweep / "new", "loss.alpha=2", "loss.beta=20", "mining=all", right=0.1)
    with pytest.raises(SystemExit, match="mining varies, too"):
        main([str(sweep), *crossed])


def test_null_stands_beside_the_line_over_the_numbers(tmp_path):
    for number, (value, right) in enumerate([("0.1", 0.5), ("null", 0.7), ("0", 0.3)]):
        trial(tmp_path / str(number), f"loss.epsilon={value}", right=right)
    main([str(tmp_path)])
    null = next(float(cell["mean"]) for cell in written(tmp_path) if cell["loss.epsilon"] == "null")
    assert f"Recall@1 over loss.epsilon; with null {null:.4f}" in (tmp_path / "study.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["empty"], "empty holds no trials"),
        (["failed"], "No trial has figures"),
        (["sweep", "--without", "7"], "--without 7: no setting that varies"),
        (["sweep", "--without", "mining=1"], "--without mining=1: no setting that varies"),
        (["sweep", "--rows", "loss.alpha", "--columns", "mining"], "mining is the same in all trials"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    failing(Path("failed/0"), "loss.alpha=1")
    trial(Path("sweep/0"), "loss.alpha=1")
    trial(Path("sweep/1"), "loss.alpha=2")
    with pytest.raises(SystemExit, match=f"Error: .*{re.escape(said)}"):
        main(arguments)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda m, w, s: m, [1, 0, 0, 0]),
        (lambda m, w, s: w, [0, 1, 0, 0]),
        (lambda m, w, s: (m - 1) * (2 * w - 1), [0, 0, 1, 0]),
        (lambda m, w, s: s, [0, 0, 0, 1]),
        (lambda m, w, s: m + w + s, [8 / 14, 3 / 14, 0, 3 / 14]),  # variances 2/3, 1/4 and 1/4
    ],
)
def test_the_shares_of_known_effects(value, expected):
    value_Xn = np.fromfunction(np.vectorize(value, otypes=[float]), (3, 2, 2))
    assert shares(value_Xn) == pytest.approx(expected, abs=1e-12)


def test_shares_add_up_to_one_for_three_settings():
    assert sum(shares(np.random.default_rng(0).random((4, 3, 2, 5)))) == pytest.approx(1)


def test_a_tuning_study_shows_its_history_and_what_matters(tmp_path):
    optuna = pytest.importorskip("optuna", reason="the record of a tuning study is Optuna's")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="dml", storage=f"sqlite:///{tmp_path / 'study.db'}", direction="maximize"
    )
    for number in range(6):
        drawn = study.ask()
        alpha = drawn.suggest_float("loss.alpha", 1, 10)
        figures = {name: value for name, value in REPORT.items() if name != "test/recall_at_1"}
        folder = tmp_path / "trials" / str(number)
        trial(folder, f"loss.alpha={alpha}", queries=False)
        (folder / "metrics.json").write_text(
            json.dumps({**figures, "val/best_recall_at_1": 0.9 - 0.01 * alpha})
        )
        study.tell(drawn, 0.9 - 0.01 * alpha)
    main([str(tmp_path)])
    means = [float(row["mean"]) for row in written(tmp_path, "val/best_recall_at_1")]
    assert means == sorted(means, reverse=True)
    assert len(means) == 6
    text = (tmp_path / "study.html").read_text()
    assert "Best validation so far" in text
    assert "Importance of each parameter" in text
