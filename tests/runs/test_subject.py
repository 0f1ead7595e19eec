"""What an evaluation evaluates: another dataset than the run's, or a network without a checkpoint."""

import csv
from pathlib import Path

import pytest
import torch
from fake_benchmarks import write_tree

from dml.errors import UserError
from dml.runs.evaluation import evaluate

QUIET = (
    "trainer.accelerator=cpu",
    "callbacks.retrieval_grid=null",
    "report=false",
    "data.num_workers=0",
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six classes of 4 images of one size."""
    write_tree(tmp_path / "images", {f"class {i}": 4 for i in range(6)})
    return tmp_path / "images"


def test_a_run_is_evaluated_on_another_dataset_with_its_own_preprocessing(
    compose, tmp_path, images, digits_run
):
    best = f"ckpt_path={digits_run(0) / 'checkpoints' / 'best.ckpt'}"  # of grey images of 16×16
    given = ("dataset=folder", f"dataset.root={images}", "dataset.recall_at=[1,3]")
    found = evaluate(compose(best, *given, *QUIET, name="evaluate", folder="other"))
    assert found["dataset"] == "folder"
    assert {"test/recall_at_1", "test/recall_at_3"} <= found.keys()
    assert "test/recall_at_2" not in found
    assert (tmp_path / "other" / "queries.csv").read_text().count("\n") == 13


def test_a_network_without_a_checkpoint_is_its_backbone_beside_raw_pixels(compose, images):
    given = ("dataset=folder", f"dataset.root={images}", "dataset.channels=1", "dataset.resize=null")
    model = ("dataset.eval_transform=null", "model=convnet", "model.blocks=2", "baselines=true")
    config = compose(*given, *model, "+data.eval_batch_size=5", *QUIET, name="evaluate")
    found = evaluate(config)
    assert found["baselines"]["raw pixels"].keys() >= {"recall_at_1", "map_at_r"}
    assert "raw pixels/recall_at_1" in found["intervals"]
    torch.manual_seed(1)
    assert evaluate(config)["test/map_at_r"] == found["test/map_at_r"]  # the network is that of seed 0


def test_audit_stands_in_the_figures(compose, images, capsys):
    given = ("dataset=digits", "model=convnet", "audit=true")
    found = evaluate(compose(*given, *QUIET, name="evaluate"))
    assert found["audit"]["here"]["recall_at_1"] == found["test/recall_at_1"]
    assert found["audit"]["here"]["nmi"] == found["test/nmi"]
    assert "- singletons counted: changes nothing here." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), r"ckpt_path is missing: .*; or, for a network without one, dataset=… and model=…\."),
        (("model=convnet",), "ckpt_path is missing"),
        (("dataset=digits", "model=convnet", "model.pool=none"), "pool"),
        (("dataset=folder", "dataset.root=nowhere", "model=convnet"), "dataset.root=nowhere is not there"),
        (("dataset=folder", "dataset.root=null", "model=convnet"), "dataset.root"),
        (("dataset=digits", "model=convnet", "audit=perhaps"), "audit=perhaps must be"),
        (("dataset=digits", "model=convnet", "+data.workers=3"), r"data\.workers"),
        (("dataset=digits", "model=convnet", "dataset.recall_at=[0]"), "recall_at"),
    ],
)
def test_mistakes_are_one_sentence(compose, overrides, said):
    with pytest.raises(UserError, match=said):
        evaluate(compose(*overrides, *QUIET, name="evaluate"))


def test_several_checkpoints_end_in_one_table_and_a_failed_one_is_a_row(digits_run, typed, tmp_path):
    checkpoints = f"ckpt_path={digits_run(0)},{tmp_path / 'nowhere'}"
    arguments = [*QUIET, checkpoints, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = typed("dml.evaluate", "-m", *arguments)
    assert done.code == 1
    assert "Trial 1 failed: UserError: ckpt_path=" in done.out
    with (tmp_path / "sweep" / "sweep.csv").open() as stream:
        first, second = csv.DictReader(stream)
    assert float(first["test/recall_at_1"]) > 0
    assert "there is no such file" in second["error"]
