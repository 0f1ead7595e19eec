"""The picture is drawn whatever the classes are called: it comes when the training is over."""

import os
import warnings
from pathlib import Path

import pytest
from fake_benchmarks import write_tree
from PIL import Image
from pytorch_lightning.utilities.warnings import PossibleUserWarning

from dml.callbacks.retrieval_grid import drawable
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


@pytest.mark.parametrize(
    ("name", "drawn"), [("größe 中", "größe 中"), (os.fsdecode(b"z\xe9"), "z\N{REPLACEMENT CHARACTER}")]
)
def test_what_is_no_letter_is_replaced(name: str, drawn: str) -> None:
    assert drawable(name) == drawn
