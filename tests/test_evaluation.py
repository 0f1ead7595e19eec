"""Evaluation from a checkpoint, wherever the images and the person are now."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_benchmarks import write_tree
from omegaconf import DictConfig

from dml.errors import UserError
from dml.evaluate import evaluate
from dml.train import train

TRAIN = (
    "dataset=folder",
    "debug=fast",
    "trainer=cpu",
    "model=convnet",
    "model.blocks=2",
    "sampler.classes_per_batch=2",
    "sampler.images_per_class=2",
    "data.num_workers=0",
    "dataset.resize=null",
    "dataset.train_transform=null",
    "dataset.eval_transform=null",
    "callbacks.retrieval_grid=null",
)
EVALUATE = ("trainer.accelerator=cpu", "callbacks.retrieval_grid=null")
Compose = Callable[..., DictConfig]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the training, with images in `images`."""
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "images", {f"class {i}": 4 for i in range(6)})
    return tmp_path


def test_images_that_moved_are_found_again(
    compose: Compose, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train(compose(*TRAIN, "dataset.root=images"))
    checkpoint = here / "run" / "checkpoints" / "best.ckpt"
    stored = torch.load(checkpoint, weights_only=True)["config"]
    assert stored["dataset"]["split"]["root"] == "${dataset.root}"  # building has replaced nothing

    (here / "elsewhere").mkdir()
    (here / "images").rename(here / "elsewhere" / "moved")
    monkeypatch.chdir(here / "elsewhere")

    def evaluated(*root: str) -> dict[str, object]:
        return evaluate(compose(f"ckpt_path={checkpoint}", *EVALUATE, *root, name="evaluate", folder="again"))

    for root in ("moved", str(here / "elsewhere" / "moved")):
        figures = evaluated(f"dataset.root={root}")
        assert figures["fingerprint"] == trained["fingerprint"]
        assert {name: trained[name] for name in figures if name.startswith("test/")} == {
            name: value for name, value in figures.items() if name.startswith("test/")
        }
    with pytest.raises(UserError, match=r"dataset\.root=images is not there, .* give the folder"):
        evaluated()
    with pytest.raises(UserError, match=r"dataset\.root=/nope is not there"):
        evaluated("dataset.root=/nope")
