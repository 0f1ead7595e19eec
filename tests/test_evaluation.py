"""Evaluation from a checkpoint, wherever the images and the person are now."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_benchmarks import write_tree
from omegaconf import DictConfig, OmegaConf

from dml.config.build import build
from dml.errors import UserError
from dml.runs.evaluation import evaluate
from dml.runs.training import train

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
SHOWN = ("trainer.accelerator=cpu",)
EVALUATE = (*SHOWN, "callbacks.retrieval_grid=null")
Compose = Callable[..., DictConfig]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the training, with images in `images`."""
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "images", {f"class {i}": 4 for i in range(6)})
    return tmp_path


@pytest.fixture
def untrained(compose: Compose, here: Path) -> Path:
    """A checkpoint of an untrained network on the folder."""
    config = compose(*TRAIN, "dataset.root=images")
    weights = {f"embedder.{key}": value for key, value in build(config.model).state_dict().items()}
    torch.save(
        {"state_dict": weights, "config": OmegaConf.to_container(config, resolve=False)}, here / "x.ckpt"
    )
    return here / "x.ckpt"


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


def test_a_table_that_moved_is_found_again(compose: Compose, here: Path) -> None:
    rows = [
        f"images/class {i}/{j}.png,{i},{'train' if i < 3 else 'test'}" for i in range(6) for j in range(4)
    ]
    table = here / "table.csv"
    table.write_text("path,label,split\n" + "\n".join(rows) + "\n")
    overrides = [o.replace("dataset=folder", "dataset=manifest") for o in TRAIN]
    trained = train(compose(*overrides, "dataset.root=.", f"dataset.file={table}"))
    moved = table.rename(here / "moved.csv")
    figures = evaluate(
        compose(
            f"ckpt_path={here / 'run' / 'checkpoints' / 'best.ckpt'}",
            *EVALUATE,
            f"+dataset.file={moved}",
            "dataset.recall_at=[1,3]",
            "+data.eval_batch_size=5",
            name="evaluate",
            folder="again",
        )
    )
    assert figures["fingerprint"] == trained["fingerprint"]
    assert figures["test/recall_at_1"] == trained["test/recall_at_1"]
    assert "test/recall_at_3" in figures


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+seed=3", "seed=… has no effect"),
        ("+model.blocks=3", "model=… has no effect"),
        ("+protocol=holdout", "protocol=… has no effect"),
        ("+dataset.file=x.csv", "dataset.file=… has no effect"),
        ("+dataset.name=x", "dataset.name=… has no effect"),
        ("+dataset.train_transform=x", "dataset.train_transform=… has no effect"),
        ("+data.cache=true", "data.cache=… has no effect"),
        ("+data.workers=3", "data.workers=… has no effect"),
        ("+data.eval_batch_size=0", "data.eval_batch_size=0 must be"),
        ("+data.eval_batch_size=many", "data.eval_batch_size=many must be"),
        ("dataset.recall_at=[0]", r"dataset.recall_at[0]=0 must be"),
        ("dataset.recall_at=1", "dataset.recall_at=1 must be"),
        ("data.num_workers=-1", "data.num_workers=-1 must be"),
        ("+trainer.more=1", "There is no key trainer.more"),
        ("trainer.precision=17", "trainer.precision=17 must be"),
        ("+callbacks.retrieval_grid.rows=3", "There is no key callbacks.retrieval_grid.rows"),
    ],
)
def test_a_key_that_nothing_reads_is_refused(
    compose: Compose, here: Path, untrained: Path, override: str, said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        evaluate(compose(f"ckpt_path={untrained}", *SHOWN, override, name="evaluate", folder="again"))
    assert not (here / "again").exists()
