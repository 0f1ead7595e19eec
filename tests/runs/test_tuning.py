"""Studies of `dml.tune`: drawn, pruned, interrupted and resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

pytest.importorskip("optuna", reason="dml.tune needs Optuna")

from dml.config.cli import CONF
from dml.config.tuning import check_tuning, corners, space_of
from dml.errors import UserError
from dml.runs.trial import run_apart
from dml.runs.tuning import open_study, rows_of, search

REPOSITORY = Path(__file__).resolve().parents[2]
METRIC = "val/recall_at_1"
GENERAL = ("loss=general", "weighting=linear")
SMALL = ("tune.trials=8", "tune.startup_trials=3", "tune.pruner.n_startup_trials=2", "seed=3")


@pytest.fixture
def tune(tmp_path: Path) -> Any:
    """Composes a configuration of `dml.tune` as its command line would."""

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(CONF, version_base="1.3"):
            config = hydra_compose("tune", [f"run_dir={tmp_path}", *overrides], return_hydra_config=True)
        config.hydra.overrides.task, config.hydra.runtime.output_dir = list(overrides), str(tmp_path)
        HydraConfig.instance().set_config(config)
        return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])

    yield composed
    HydraConfig.instance().cfg = None


def training(dies_at: dict[int, str] | None = None, ran: list[int] | None = None) -> Callable[..., None]:
    """A `run_apart` whose recall rises to a value that depends on α and λ alone; some trials end otherwise."""

    def train(command: str, overrides: list[str], folder: Path, stop: Callable[[], str | None]) -> None:
        assert command == "dml.train"
        assert {"protocol=holdout", "test=false", "resume=auto", "seed=3"} < set(overrides)
        assert not any(override.startswith("tune.") for override in overrides)
        number = int(folder.name)
        if ran is not None:
            ran.append(number)
        values = dict(override.split("=") for override in overrides)
        best = 0.9 - abs(float(values["loss.lambda"]) - 0.4) - abs(float(values["loss.alpha"]) - 2) / 40
        how = (dies_at or {}).get(number, "")
        folder.mkdir(parents=True, exist_ok=True)
        lines, why = [f"step,train/loss,{METRIC}"], None
        for step in (9, 19, 29, 39):
            if how == "interrupted" and step == 29:
                raise KeyboardInterrupt
            lines += [f"{step - 5},0.1,", f"{step},,{best * step / 39}"]
            (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
            # As late as a parent that looks seldom: some trials are at their end by then.
            why = stop() if number % 2 or step == 39 else None
            if why:
                break
        figures = {"error": "killed by SIGKILL"} if how == "killed" else {"val/best_recall_at_1": best}
        (folder / "metrics.json").write_text(json.dumps({"error": why} if why else figures))
        if how == "interrupted at its end":
            raise KeyboardInterrupt

    return train


def outcome(config: DictConfig, out: Path) -> list[dict[str, Any]]:
    return rows_of(open_study(config, out), METRIC)


def test_a_study_that_is_interrupted_ends_with_the_trials_it_would_have_had(tune, tmp_path):
    config, ran = tune(*SMALL), []
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    search(open_study(config, whole), config, whole, training({5: "killed"}))
    for dies_at in ({1: "interrupted"}, {3: "interrupted at its end"}, {6: "interrupted"}):
        with pytest.raises(KeyboardInterrupt):
            search(open_study(config, cut), config, cut, training(dies_at | {5: "killed"}, ran))
        assert outcome(config, cut)[-1]["state"] == "unfinished"
    search(open_study(config, cut), config, cut, training({5: "killed"}, ran))
    assert outcome(config, cut) == outcome(config, whole)
    assert {row["state"] for row in outcome(config, cut)} == {"complete", "pruned", "fail"}
    # One that was stopped for its validations need not run again; the others that were interrupted do.
    assert [n for n in range(8) if ran.count(n) == 2] in ([1, 6], [1, 3, 6])
    assert sorted(set(ran)) == list(range(8))


def test_a_killed_trial_is_a_row_with_its_error_and_the_best_complete_one_comes_first(tune, tmp_path):
    config = tune(*SMALL, "tune.pruner=null")
    search(open_study(config, tmp_path), config, tmp_path, training({2: "killed", 4: "killed"}))
    rows = outcome(config, tmp_path)
    assert [row["state"] for row in rows] == ["complete"] * 6 + ["fail"] * 2
    assert [row["trial"] for row in rows[-2:]] == [2, 4]
    assert rows[-1]["error"] == "killed by SIGKILL"
    recalls = [row[METRIC] for row in rows[:-2]]
    assert recalls == sorted(recalls, reverse=True)


def test_a_study_whose_first_trials_all_fail_ends_there(tune, tmp_path):
    config = tune(*SMALL)
    with pytest.raises(UserError, match=r"first 3 trials failed.*SIGKILL"):
        search(open_study(config, tmp_path), config, tmp_path, training(dict.fromkeys(range(8), "killed")))


def test_a_folder_takes_the_same_study_and_no_other(tune, tmp_path):
    open_study(tune(*SMALL), tmp_path)
    open_study(tune(*SMALL, "tune.trials=20", "data.num_workers=0"), tmp_path)
    with pytest.raises(UserError, match=r"study with loss.chunk=auto, and now it is 8: give"):
        open_study(tune(*SMALL, "loss.chunk=8"), tmp_path)
    with pytest.raises(UserError, match=r"study with tune.space.loss.alpha.low=0.5, and now it is 1"):
        open_study(tune(*SMALL, "tune.space.loss.alpha.low=1"), tmp_path)


def test_a_space_has_ranges_whole_numbers_and_choices(tune):
    config = tune(
        "~tune.space.loss",
        "+tune.space.sampler.images_per_class={low: 4, high: 6, step: 1}",
        "+tune.space.mining={choices: [hardest, relative, null]}",
    )
    space = space_of(config)
    assert list(space) == ["optimizer.lr", "sampler.images_per_class", "mining"]
    assert space["sampler.images_per_class"].to_external_repr(5) == 5
    points = list(corners(space))
    assert {point["mining"] for point in points} == {"hardest", "relative", None}
    assert {point["optimizer.lr"] for point in points} == {1e-6, 1e-2}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["protocol=paper"], "dml.tune sets protocol itself"),
        (["loss=triplet"], "no key loss.alpha here; '~tune.space.loss.alpha' leaves it out"),
        (["loss.alpha=2"], "loss.alpha is given and searched"),
        (["tune.space.loss.alpha.low=20"], "tune.space.loss.alpha=.*low <= high"),
        (["+tune.space.loss.alpha.hihg=20"], "hihg is not of the form"),
        (["tune.space.loss.alpha.low=x"], "tune.space.loss.alpha.low=x must be"),
        (["tune.space.loss.lambda.low=nan"], "tune.space=.*must be finite"),
        (["tune.space.loss.epsilon=null", "tune.space.loss=null", "tune.space.optimizer=null"], "is empty"),
        (["tune.trials=0"], "tune.trials=0 must be greater than 0"),
        (["+tune.trails=3"], "tune.trails is missing or not one of them"),
        (["+tune.pruner.foo=3"], "no key tune.pruner.foo"),
        (["tune.space.optimizer.lr.low=-1", "tune.space.optimizer.lr.log=false"], "optimizer.lr=-1"),
        (["+tune.space.mining={choices: [null]}"], "Config group override must be"),
        (["~tune.space.loss", "+tune.space.mining={choices: [hardest, al]}", *GENERAL], "no mining=al"),
    ],
)
def test_a_mistake_is_one_sentence(tune, overrides, sentence):
    config = tune(*overrides)
    with (
        initialize_config_dir(CONF, version_base="1.3"),
        pytest.raises(UserError, match=sentence),
    ):
        check_tuning(config)


def test_a_trial_that_is_to_stop_is_asked_to_and_says_why(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run_apart("slow", [], tmp_path, lambda: "pruned at step 9")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"error": "pruned at step 9"}


def test_a_trial_does_not_test_and_the_best_one_does(tmp_path, typed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # of the trials' processes
    monkeypatch.setenv("WANDB_RUN_GROUP", "study")  # which the command would set for good
    small = ["debug=fast", "trainer=cpu", "model.embedding_dim=8", "dataset.canvas=8"]
    quick = ["callbacks.retrieval_grid=null", "callbacks.recall.nmi=false"]
    done = typed("dml.tune", *small, *quick, "tune.trials=1", "hydra.run.dir=study")
    assert done.code == 0, done.err
    assert "1 trials, best val/recall_at_1 first" in done.out
    trial, best = tmp_path / "study" / "trials" / "0", OmegaConf.load(tmp_path / "study" / "best.yaml")
    of_trial = json.loads((trial / "older" / "metrics.json").read_text())
    tested = json.loads((trial / "metrics.json").read_text())
    assert not [name for name in of_trial if name.startswith("test/")]
    assert not list((trial / "older").glob("queries.csv"))
    assert of_trial["val/best_recall_at_1"] == tested["val/best_recall_at_1"] == best[METRIC]
    assert tested["test/recall_at_1"] == best["test/recall_at_1"]
    assert f"loss.alpha={best.parameters['loss.alpha']}" in best.command
