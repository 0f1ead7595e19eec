"""A sweep with `logger=wandb`, offline: what its runs have written, and the scripts that read or start such runs."""

import errno
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from PIL import Image
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb_records import OfflineRun, read_offline_run

from dml.config.check import resolved
from dml.config.cli import CONF
from dml.errors import Note
from dml.runs.queries import read_queries
from dml.runs.training import train
from dml.runs.wandb_names import run_name

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "wandb"
FAST = ("debug=fast", "trainer=cpu", "model.embedding_dim=8")
HOLDS = ("recall_at_1", "recall_at_2", "map_at_r", "r_precision", "mrr")


def command(folder: Path, words: list[str], **variables: str) -> None:
    """Run a command in a folder, on a machine without an account."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = clean | {"HOME": str(folder), "NETRC": str(folder / "netrc"), "PATH": path} | variables
    env["PYTHONPATH"] = os.pathsep.join([str(SCRIPTS.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """The folder of a sweep of two short trials."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ["-m", "loss.alpha=1,2.5", "logger=wandb", "logger.wandb.tags=[mine]", "baselines=true", *FAST]
    command(folder, [sys.executable, "-m", "dml.train", *words])
    [found] = folder.glob("multirun/*/*")
    return found


@pytest.fixture(scope="module")
def trial(sweep) -> Path:
    """The folder of its second trial."""
    return sweep / "1"


@pytest.fixture(scope="module")
def run(trial) -> OfflineRun:
    """What W&B got of it."""
    return read_offline_run(trial)


def test_runs_say_what_they_are(sweep, run):
    assert run.about.display_name == "digits-ms-alpha=2.5-embedding_dim=8"
    assert read_offline_run(sweep / "0").about.display_name == "digits-ms-alpha=1-embedding_dim=8"
    assert run.about.run_group == "/".join(sweep.parts[-2:])
    assert list(run.about.tags) == ["digits", "ms", "convnet_shallow", "mine"]
    assert (run.about.job_type, run.about.project) == ("train", "dml")


def test_the_configuration_is_nested_and_whole(run, trial):
    assert (run.config["loss"]["alpha"], run.config["dataset"]["name"]) == (2.5, "digits")
    with initialize_config_dir(CONF, version_base="1.3"):
        composed = hydra_compose("train", [*FAST, "logger=wandb", "run_dir=x"])
    assert {*resolved(composed)} <= {*run.config}
    assert run.config["run_dir"] == "/".join(trial.parts[-4:])  # not where it lies on the machine
    assert str(trial.parents[3]) not in json.dumps(run.config)


def test_the_summary_holds_the_figures_and_their_intervals(run, trial):
    figures = json.loads((trial / "metrics.json").read_text())
    for name in (f"test/{metric}" for metric in HOLDS):
        assert run.summary[name] == figures[name]
        assert [run.summary[f"{name}_low"], run.summary[f"{name}_high"]] == figures["intervals"][name]
    for floor in ("raw pixels", "untrained"):
        key = f"baselines/{floor.replace(' ', '_')}/recall_at_1"
        assert run.summary[key] == figures["baselines"][floor]["recall_at_1"]
        assert run.summary[f"{key}_low"] == figures["intervals"][f"{floor}/recall_at_1"][0]
    assert run.summary["collapsed"] is False
    assert run.summary["fingerprint"] == figures["fingerprint"]


def test_the_summary_keeps_the_best_validation(run):
    for k in (1, 2, 4, 8):
        values = [row[f"val/recall_at_{k}"] for row in run.history if f"val/recall_at_{k}" in row]
        assert len(values) == 2
        assert run.defined[f"val/recall_at_{k}"].max
        assert run.summary[f"val/recall_at_{k}"] == {"max": max(values)}


def test_curves_have_the_step_of_training(run):
    losses = [(row["trainer/global_step"], row["train/loss"]) for row in run.history if "train/loss" in row]
    assert [step for step, _ in losses] == [0, 1, 2, 3]
    assert all(loss > 0 for _, loss in losses)
    assert any("pairs/overlap" in row for row in run.history)
    assert [row["trainer/global_step"] for row in run.history if "val/recall_at_1" in row] == [1, 3]


def test_histograms_are_shares_of_each_kind_of_pair(run):
    for kind in ("positive", "negative"):
        shares, edges = (run.summary[f"test/{kind}_similarity/{part}"] for part in ("values", "bins"))
        assert sum(shares) == pytest.approx(1)
        assert (edges[-1], len(edges)) == (1, len(shares) + 1)


def test_the_table_shows_queries_and_what_they_found(run, trial):
    queries = {row["name"]: row for row in read_queries(trial).rows}
    table = json.loads((run.files / run.summary["test/retrievals/path"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(rows) == 2
    for row in rows:
        query = queries[row["name"]]
        assert (row["class"], str(row["first_right_rank"])) == (query["class"], query["first_right_rank"])
        assert row["class_1"] == query["nearest_class"]
        assert row["similarity_1"] == pytest.approx(float(query["nearest_similarity"]), abs=1e-6)
        assert row["right_1"] == (row["class_1"] == row["class"])
        assert [row[f"right_{k}"] for k in range(1, 6)].count(True) > 0 or row["first_right_rank"] > 5


def test_the_tables_images_stay_with_the_run(run, trial):
    images = [path for name, path in run.artifacts["run_table"].items() if name.endswith(".png")]
    assert 2 <= len(images) <= 12  # two queries and five neighbours each, none twice
    for path in images:
        assert path.is_relative_to(trial.parent)
        with Image.open(path) as image:
            assert image.size == (16, 16)
    picture = run.files / run.summary["test/retrievals_picture/path"]
    assert picture.read_bytes() == (trial / "retrievals.png").read_bytes()


def drawn(parameter: dict) -> list[object]:
    """The ends of a parameter's range, or its values."""
    return [parameter["min"], parameter["max"]] if "min" in parameter else parameter["values"]


def test_a_sweep_of_wandb_drives_the_command(tmp_path):
    definition = yaml.safe_load((SCRIPTS / "sweep.yaml").read_text())
    assert definition["metric"] == {"name": "val/recall_at_1", "goal": "maximize"}
    assert {*definition["parameters"]} == {f"loss.{key}" for key in ("alpha", "beta", "lambda", "epsilon")}
    # As the agent of wandb forms it.
    arguments = {key: {"value": drawn(value)[-1]} for key, value in definition["parameters"].items()}
    filled = create_sweep_command_args({"args": arguments}) | {"env": ["/usr/bin/env"]}
    words: list[str] = []
    for word in create_sweep_command(definition["command"]):
        words += filled[word[2:-1]] if word.startswith("${") else [word]
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, **arguments}))
    agent = {"SWEEP_ID": "sweep1", "RUN_ID": "run1", "SWEEP_PARAM_PATH": str(parameters)}
    words += [*FAST, "dataset.canvas=8", "callbacks.retrieval_grid=null", "callbacks.recall.nmi=false"]
    command(tmp_path, words, **{f"WANDB_{name}": value for name, value in agent.items()})
    run = read_offline_run(tmp_path)
    assert (run.about.run_id, run.about.sweep_id) == ("run1", "sweep1")
    assert run.about.display_name.startswith(
        "digits-ms-protocol=holdout-alpha=10-beta=100-lambda=1-epsilon=0.3"
    )
    for key, value in arguments.items():
        assert run.config["loss"][key.removeprefix("loss.")] == value["value"]
    assert any("val/recall_at_1" in row for row in run.history)


def test_the_sweeps_parameters_are_keys_of_the_configuration():
    parameters = yaml.safe_load((SCRIPTS / "sweep.yaml").read_text())["parameters"]
    for end in (0, -1):
        with initialize_config_dir(CONF, version_base="1.3"):
            words = [f"{key}={drawn(parameter)[end]}" for key, parameter in parameters.items()]
            hydra_compose("train", [*words, "run_dir=x"])


def test_the_dashboard_shows_what_a_run_logs(run):
    pytest.importorskip("wandb_workspaces")
    spec = importlib.util.spec_from_file_location("dashboard", SCRIPTS / "dashboard.py")
    assert spec
    assert spec.loader
    dashboard = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dashboard)
    built = dashboard.workspace("me", "dml")
    built._to_model().model_dump_json(by_alias=True)  # what saving sends
    logged = {key for row in run.history for key in row} | {*run.summary}
    for panel in (panel for section in built.sections for panel in section.panels):
        shown = {*getattr(panel, "y", []), *getattr(panel, "metrics", []), *getattr(panel, "media_keys", [])}
        shown |= {
            getattr(panel, name) for name in ("x", "table_name", "with_respect_to") if hasattr(panel, name)
        }
        missing = {key for key in shown if key not in logged and f"{key}/_type" not in logged}
        assert not missing
    for column in built.runset_settings.pinned_columns[1:]:
        kind, _, key = column.partition(":")
        assert key in logged if kind == "summary" else at(run.config, key) is not None


def at(config: dict, key: str) -> object:
    """A value by W&B's key, in which `value` follows the first part."""
    first, value, *rest = key.split(".")
    assert value == "value"
    node = config[first]
    for part in rest:
        node = node[part]
    return node


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "cars-ms"),
        (["dataset.root=/a/b", "trainer.max_time=1", "loss=ms", "~memory"], "cars-ms"),
        (["+loss.beta=40", "model=resnet50", "seed=3"], "cars-ms-beta=40-model=resnet50-seed=3"),
        (["loss.alpha=0.123456789", "optimizer.lr=1e-5"], "cars-ms-alpha=0.1235-lr=1e-5"),
        (["model.weights=/home/me/best.ckpt"], "cars-ms-weights=best.ckpt"),
    ],
)
def test_names_tell_what_is_tried(overrides, name):
    assert run_name(["cars", "ms"], overrides) == name


def test_what_wandb_cannot_log_is_a_note(compose, tmp_path, monkeypatch):
    import wandb

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wandb, "Table", full)
    with pytest.warns(Note, match=r"W&B did not get all of this test \(.*No space left"):
        figures = train(compose(*FAST, "logger=wandb"))
    wandb.finish()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/nmi"] == figures["test/nmi"]
    assert (tmp_path / "run" / "retrievals.png").is_file()


def test_names_are_as_short_as_wandb_wants_them():
    assert len(run_name(["cars", "ms"], ["model.name=" + "x" * 300])) == 128
