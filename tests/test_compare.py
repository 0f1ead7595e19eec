"""`python -m dml.compare`: is one run better than another, on which queries, and what cannot be compared."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from dml.analysis.comparison import compare, read_runs
from dml.compare import main
from dml.data.protocol import EvaluationSet
from dml.data.split import Samples
from dml.retrieval.evaluate import rank_queries
from dml.retrieval.metrics import METRICS, query_metrics, recall_metrics
from dml.runs.evaluation import evaluate
from dml.runs.queries import write_queries


def made_up(folder: Path, spread: float, reverse: bool = False, fingerprint: str = "abc") -> Path:
    """A run's folder with 20 classes of 10 queries, the further apart the smaller the spread."""
    generator = torch.Generator().manual_seed(0)
    label_N = torch.arange(20).repeat_interleave(10)
    centre_CD, noise_ND = (torch.randn(n, 16, generator=generator) for n in (20, 200))
    z_ND = torch.nn.functional.normalize(centre_CD[label_N] + spread * noise_ND)
    order = torch.arange(200).flip(0) if reverse else torch.arange(200)
    names = [f"image {i}" for i in order]
    evaluation = EvaluationSet.of(Samples([Path(n) for n in names], label_N[order].numpy(), names))
    ranking = rank_queries(z_ND[order], evaluation)
    metrics = query_metrics(ranking, recall_metrics([1]) | METRICS)
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"fingerprint": fingerprint, "checkpoint": "x.ckpt"}))
    write_queries(folder, evaluation, [f"class {c}" for c in range(20)], ranking, metrics)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "comparison.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_run_differs_from_itself_by_nothing(tmp_path, capsys):
    run = made_up(tmp_path / "a", 1.0)
    assert main([str(run), str(run), "--out", str(tmp_path / "out")]) == 0
    for row in rows(tmp_path / "out")[1::2]:
        assert (row["difference"], row["difference_low"], row["difference_high"]) == ("0.0",) * 3
        assert row["verdict"] == "undecided"
    assert ", 0 A alone, 0 B alone, " in capsys.readouterr().out
    assert not (tmp_path / "out" / "comparison.png").exists()


def test_a_better_run_is_called_so_whatever_the_order_of_its_images(tmp_path, capsys):
    worse, better = made_up(tmp_path / "worse", 2.0), made_up(tmp_path / "better", 0.5, reverse=True)
    main([str(worse), str(better), str(worse), "--out", str(tmp_path / "out")])
    assert "comparison.png could not be drawn" in (noted := capsys.readouterr().err)
    assert "best.ckpt is not there" in noted
    found = {(row["metric"], row["run"]): row for row in rows(tmp_path / "out")}
    row = found["recall_at_1", "1"]
    assert row["verdict"] == "better"
    assert 0 < float(row["difference_low"]) < float(row["difference"]) < float(row["difference_high"])
    assert float(row["difference"]) == pytest.approx(
        float(row["value"]) - float(found["recall_at_1", "0"]["value"])
    )
    assert found["recall_at_1", "2"]["difference"] == "0.0"
    for name, text in (("md", "| recall_at_1 | "), ("tex", r"recall\_at\_1 & ")):
        assert text in (tmp_path / "out" / f"comparison.{name}").read_text()


def test_pairing_is_surer_than_two_intervals(tmp_path):
    paths = [made_up(tmp_path / name, spread) for name, spread in (("a", 1.0), ("b", 1.1))]
    _, second = (figure for figure in compare(read_runs(paths)) if figure.metric == "map_at_r")
    paired = second.difference_high - second.difference_low
    assert paired < (second.high - second.low)
    assert second.verdict == "worse"


def test_intervals_of_differences_are_those_of_shared_draws(tmp_path):
    paths = [made_up(tmp_path / name, spread) for name, spread in (("a", 1.0), ("b", 1.5))]
    first, second = read_runs(paths)
    figure = next(f for f in compare([first, second]) if f.metric == "mrr" and f.run == 1)
    classes = np.unique(first.queries.class_Q)
    means = [
        [run.queries.values["mrr"][run.queries.class_Q == name].mean() for name in classes]
        for run in (first, second)
    ]
    drawn = np.random.default_rng(1).integers(20, size=(4000, 20))  # naive: other draws of equal classes
    difference_S = np.diff(np.array(means)[:, drawn].mean(axis=2), axis=0)[0]
    low, high = np.quantile(difference_S, [0.018, 0.982])
    assert figure.difference_low == pytest.approx(low, abs=0.15 * (high - low))
    assert figure.difference_high == pytest.approx(high, abs=0.15 * (high - low))


def test_two_trained_runs_and_the_queries_on_which_they_differ(digits_run, tmp_path):
    best = digits_run(1) / "checkpoints" / "best.ckpt"
    main([str(digits_run(0)), str(best), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "comparison.png").read_bytes()[1:4] == b"PNG"


def test_an_evaluation_of_a_runs_folder_finds_its_images(compose, digits_run, tmp_path):
    quick = ("report=false", "callbacks.retrieval_grid=null")
    config = compose(f"ckpt_path={digits_run(0)}", *quick, name="evaluate", folder="evaluation")
    (tmp_path / "evaluation" / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, tmp_path / "evaluation" / ".hydra" / "config.yaml")  # as Hydra does
    evaluate(config)
    main([str(tmp_path / "evaluation"), str(digits_run(1)), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "comparison.png").is_file()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("queries.csv", r"holds no queries\.csv: python -m dml\.evaluate"),
        ("metrics.json", r"holds no metrics\.json: give the folder of a run"),
        ("", "b is not there: give the folder"),
        ("split", r"tested on another split than .* \(fingerprints other and abc\)"),
        ("query", "has other queries than"),
        ("failed", "is that of a run that failed"),
        ("checkpoint", r"x\.ckpt is not what .*metrics\.json is about: python -m dml\.evaluate ckpt_path="),
        ("alone", "at least two runs"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_leaves_nothing(tmp_path, damage, said):
    made_up(tmp_path / "a", 1.0)
    other = made_up(tmp_path / "b", 1.0, fingerprint="other" if damage == "split" else "abc")
    given = [tmp_path / "a", other]
    if damage in ("queries.csv", "metrics.json"):
        (other / damage).unlink()
    elif damage == "":
        shutil.rmtree(other)
    elif damage == "query":
        file = other / "queries.csv"
        file.write_text(file.read_text().replace("\nimage 7,", "\nimage 777,"))
    elif damage == "failed":
        (other / "metrics.json").write_text('{"error": "no"}')
    elif damage == "checkpoint":
        (other / "checkpoints").mkdir()
        given[1] = other / "checkpoints" / "x.ckpt"
        given[1].touch()
    elif damage == "alone":
        given.pop()
    with pytest.raises(SystemExit, match=said):
        main([*map(str, given), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
