"""Evaluation from a checkpoint, wherever the images and the person are now."""

import errno
import io
import re
import shutil
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from fake_benchmarks import write_tree
from omegaconf import DictConfig, OmegaConf

from dml.config.build import build_data, build_model
from dml.config.check import check_config
from dml.errors import Note, UserError
from dml.prepare import prepare
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
SHOWN = ("trainer.accelerator=cpu", "report=false")
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
    weights = {f"embedder.{key}": value for key, value in build_model(config.model).state_dict().items()}
    torch.save(
        {"state_dict": weights, "config": OmegaConf.to_container(config, resolve=False)}, here / "x.ckpt"
    )
    return here / "x.ckpt"


class Full(io.StringIO):
    """Standard output in a file on a full disk."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_figures_that_cannot_be_printed_are_written(
    compose: Compose, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = compose(f"ckpt_path={untrained}", *EVALUATE, name="evaluate", folder="given")
    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(OSError, match="No space"):
        evaluate(given)
    assert {"metrics.json", "queries.csv"} <= {file.name for file in Path(given.run_dir).iterdir()}


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


def lost(images: Path) -> None:
    for side in ("train", "Train"):
        shutil.rmtree(images / side, ignore_errors=True)


def table(here: Path) -> str:
    """The images of the folder as a table, and what chooses it."""
    rows = [f"{f.relative_to(here)},{f.parent.name},{f.parts[-3].lower()}" for f in here.rglob("*.png")]
    (here / "manifest.csv").write_text("\n".join(["path,label,split", *sorted(rows)]))
    return "dataset=manifest"


@pytest.mark.parametrize(
    ("folders", "overrides", "is_table"),
    [
        (("train", "test"), ["dataset.nested=true"], False),
        (("Train", "TEST"), ["protocol=holdout"], False),
        (("train", "test", "val"), [], False),
        (("train", "test"), [], True),
        (("train", "test"), ["protocol=holdout"], True),
    ],
)
def test_the_training_images_may_be_gone(
    compose: Compose, here: Path, folders: tuple[str, ...], overrides: list[str], is_table: bool
) -> None:
    """A table still names them, so that the fingerprint is the same; a folder does not, which a note says."""
    nested = "/more" if "dataset.nested=true" in overrides else ""
    for folder in folders:
        write_tree(here / "mine" / folder, {f"{folder} {i}{nested}": 4 for i in range(5)})
    dataset = table(here / "mine") if is_table else "dataset=folder"
    trained = train(compose(*TRAIN, dataset, "dataset.root=mine", *overrides))
    lost(here / "mine")
    config = compose(
        f"ckpt_path={here}/run/checkpoints/best.ckpt", *EVALUATE, name="evaluate", folder="again"
    )
    with (
        nullcontext()
        if is_table
        else pytest.warns(Note, match="The dataset holds no training images: its split")
    ):
        figures = evaluate(config)
    assert {k: v for k, v in figures.items() if k.startswith("test/")} == {
        k: v for k, v in trained.items() if k.startswith("test/")
    }
    assert (figures["fingerprint"] == trained["fingerprint"]) is is_table
    with pytest.raises(UserError, match=r"no training images|missing or a broken link"):
        train(compose(*TRAIN, dataset, "dataset.root=mine", *overrides, folder="another"))


def test_named_test_classes_are_enough(compose: Compose, here: Path) -> None:
    trained = train(compose(*TRAIN, "dataset.root=images", "dataset.test_classes=[class 4,class 5]"))
    for i in range(4):
        shutil.rmtree(here / "images" / f"class {i}")
    config = compose(
        f"ckpt_path={here}/run/checkpoints/best.ckpt", *EVALUATE, name="evaluate", folder="again"
    )
    with pytest.warns(Note, match="holds no training images"):
        assert evaluate(config)["test/recall_at_1"] == trained["test/recall_at_1"]


def test_other_images_than_those_of_the_run_are_noted(compose: Compose, here: Path) -> None:
    train(compose(*TRAIN, "dataset.root=images"))
    shutil.rmtree(here / "images" / "class 0")
    config = compose(
        f"ckpt_path={here}/run/checkpoints/best.ckpt", *EVALUATE, name="evaluate", folder="again"
    )
    with pytest.warns(Note, match="has other images, classes or roles: its split fingerprint is"):
        evaluate(config)


def test_p_and_k_are_fitted_and_kept(compose: Compose, here: Path) -> None:
    """The checkpoint holds the numbers, and a run that resumes has the same."""
    auto = [override for override in TRAIN if not override.startswith("sampler.")]
    with pytest.warns(Note, match="sampler.classes_per_batch=3 in place of 16") as said:
        train(compose(*auto, "dataset.root=images"))
    assert sum("in place of 16" in str(note.message) for note in said) == 1
    sampler = torch.load(here / "run/checkpoints/last.ckpt", weights_only=True)["config"]["sampler"]
    assert (sampler["classes_per_batch"], sampler["images_per_class"]) == (3, 4)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        train(compose(*auto, "dataset.root=images", "resume=auto", "dataset.max_steps=6"))
    assert not any("other settings" in str(note.message) and "sampler" in str(note.message) for note in notes)
    with pytest.raises(UserError, match=r"sampler.classes_per_batch=16 must be at least 2 and at most 3"):
        train(compose(*auto, "dataset.root=images", "sampler.classes_per_batch=16", folder="another"))


def test_a_run_begins_with_the_weights_of_another(compose: Compose, here: Path) -> None:
    train(compose(*TRAIN, "dataset.root=images"))
    (here / "run").rename(here / "first")
    weights = "model.weights=first/checkpoints/best.ckpt"
    still = ("optimizer.lr=0", "model.freeze_batchnorm=true")
    trained = train(compose(*TRAIN, "dataset.root=images", weights, *still))
    config = compose("ckpt_path=first/checkpoints/best.ckpt", *EVALUATE, name="evaluate", folder="again")
    assert evaluate(config)["test/recall_at_1"] == trained["test/recall_at_1"]
    assert trained["steps"] == 4
    with pytest.warns(Note, match="it starts anew"):
        train(compose(*TRAIN, "dataset.root=images", weights, "model.embedding_dim=8", folder="another"))
    with pytest.raises(UserError, match="does not fit this model"):
        train(compose(*TRAIN, "dataset.root=images", weights, "model.blocks=3", folder="third"))


@pytest.fixture
def odd_names(here: Path) -> Path:
    names = ["null", "true", "1e3", "1.10", "no", "007", "1_000", "12"]
    return write_tree(here / "images", dict.fromkeys(names, 2))


@pytest.mark.parametrize(
    ("typed", "classes"),
    [
        ('["null"]', ["null"]),
        ("['null','1e3']", ["1e3", "null"]),
        ('["true","1.10","no","007"]', ["007", "1.10", "no", "true"]),
        ('["1_000"]', ["1_000"]),
        ("[class 0,12]", ["12", "class 0"]),
    ],
)
def test_class_names_that_yaml_reads_as_something_else(
    compose: Compose, odd_names: Path, typed: str, classes: list[str]
) -> None:
    config = compose(*TRAIN, "dataset.root=images", f"dataset.test_classes={typed}")
    check_config(config)
    prepared = prepare("folder", odd_names, overrides=[f"dataset.test_classes={typed}"])
    for split in (build_data(config).loaded_split, prepared):
        assert sorted({split.classes[label] for label in split.query.labels}) == classes


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("[null]", "[0]=null must be a valid string or a valid integer; a name that looks like a number"),
        ("[no,true]", "[1]=true must be a valid string or a valid integer; a name that looks like a number"),
        ("[1e3]", "[0]=1000.0 must be a valid string or a valid integer; a name that looks like a number"),
        ("[12,1.10]", "[1]=1.1 must be a valid string or a valid integer; a name that looks like a number"),
        ("[1_000]", " has '1000', which is no folder of "),
        ("true", "=true must be"),
        ("12", "=12 must be"),
    ],
)
def test_such_names_without_quotes(compose: Compose, odd_names: Path, typed: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"dataset.test_classes{said}")):
        train(compose(*TRAIN, "dataset.root=images", f"dataset.test_classes={typed}"))
    if typed != "[no,true]":  # a boolean for YAML, a string for Hydra
        with pytest.raises(UserError, match=re.escape(f"dataset.test_classes{said}")):
            prepare("folder", odd_names, overrides=[f"dataset.test_classes={typed}"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+seed=3", "seed=… has no effect"),
        ("+model.blocks=3", "model=… has no effect"),
        ("protocol=holdout", "protocol=holdout must be retrieval or verification"),
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
