"""The picture is drawn whatever the classes are called, after the figures are written, which it cannot harm."""

import json
import os
import warnings
from pathlib import Path

import pytest
from fake_benchmarks import write_tree
from PIL import Image
from pytorch_lightning.utilities.warnings import PossibleUserWarning

from dml.errors import Note, UserError
from dml.runs.training import train

RUN = (
    "dataset=folder",
    "debug=fast",
    "trainer=cpu",
    "model=convnet",
    "model.blocks=2",
    "sampler=pk_16x5",
    "sampler.classes_per_batch=2",
    "sampler.images_per_class=2",
    "data.num_workers=0",
    "dataset.resize=null",
    "dataset.train_transform=null",
    "dataset.eval_transform=null",
)


def test_any_name_of_a_class_can_be_drawn(compose, tmp_path: Path) -> None:
    names = ["a", "b", "x $\\broken$", os.fsdecode(b"z\xe9"), "中文"]
    root = write_tree(tmp_path / "images", dict.fromkeys(names, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", PossibleUserWarning)  # Lightning's advice on three cores or more
        train(compose(*RUN, f"dataset.root={root}", "dataset.test_share=0.6"))
    with Image.open(tmp_path / "run" / "retrievals.png") as picture:
        assert picture.size[0] == 1080


SMALL = ("debug=fast", "trainer=cpu", "model.embedding_dim=8", "dataset.canvas=8")


SHOW, SAVE = "dml.callbacks.retrieval_grid.show", "matplotlib.figure.Figure.savefig"


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (SHOW, UserError("x.jpg is no image.")),
        (SHOW, MemoryError()),
        (SAVE, OSError(28, "No space left on device")),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_a_note_and_the_figures_are_written(
    compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    def failing(*args: object, **kwargs: object) -> None:
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/recall_at_1"] > 0
        raise error

    monkeypatch.setattr(place, failing)
    with pytest.warns(Note, match=r"retrievals\.png could not be drawn \(.+\); all figures are written"):
        figures = train(compose(*SMALL, "callbacks.recall.nmi=false"))
    assert figures["steps"] == 4
    assert not list((tmp_path / "run").glob("retrievals*"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("queries", "0"), ("queries", "21"), ("neighbours", "-1"), ("neighbours", "11"), ("neighbours", "5.5")],
)
def test_the_size_of_the_picture_is_bounded_before_any_work(compose, tmp_path, key, value) -> None:
    override = f"callbacks.retrieval_grid.{key}={value}"
    with pytest.raises(UserError, match=rf"callbacks\.retrieval_grid\.{key}={value} must be"):
        train(compose(override))
    assert not list(tmp_path.iterdir())
