"""A checkpoint from anyone: only the package's own network and data are built from it."""

import os
import pickle
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from dml.config.build import build, build_model
from dml.config.cli import CONF
from dml.config.trusted import read_run
from dml.errors import UserError
from dml.runs.evaluation import evaluate

Content = dict[str, Any]
MARK = "run-by-a-checkpoint"  # the file that each attack would leave in the working folder
TOUCH = f"__import__('pathlib').Path('{MARK}').touch()"
SYMPIFY = {"_target_": "sympy.sympify", "a": TOUCH}
COMPOSE = "torchvision.transforms.v2.Compose"


class Unpickled:
    """Leaves the mark when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARK}",)


@pytest.fixture(autouse=True)
def scene(tmp_path, monkeypatch) -> None:
    """A working folder with what the attacks load."""
    monkeypatch.chdir(tmp_path)
    Path("evil.pkl").write_bytes(pickle.dumps(Unpickled()))
    Path("hubconf.py").write_text(f"{TOUCH}\ndef model(): pass\n")


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(name, [*overrides, "run_dir=run"])


@pytest.fixture(scope="module")
def made() -> Content:
    """A checkpoint of an untrained network on the digits, as dml.train would write it."""
    config = composed("train", "model.embedding_dim=8")
    weights = {f"embedder.{key}": value for key, value in build_model(config.model).state_dict().items()}
    return {"state_dict": weights, "config": OmegaConf.to_container(config, resolve=False)}


@pytest.fixture
def content(made) -> Content:
    return deepcopy(made)


@pytest.fixture(scope="module")
def settings() -> DictConfig:
    """Of a quick evaluation."""
    quick = ("trainer.accelerator=cpu", "callbacks.recall.nmi=false", "report=false")
    return composed("evaluate", "ckpt_path=x.ckpt", *quick)


@pytest.fixture
def judge(settings, content) -> Callable[..., dict[str, Any]]:
    """Saves the checkpoint with other values, by dotted key, and evaluates it."""

    def judged(changes: dict[str, Any], trust: Any = ()) -> dict[str, Any]:
        changed = deepcopy(content)
        for key, value in changes.items():
            *parents, last = key.split(".")
            node = changed["config"]
            for parent in parents:
                node = node[parent]
            node[last] = deepcopy(value)
        torch.save(changed, "x.ckpt")
        config = settings.copy()
        config.trust = trust
        return evaluate(config)

    return judged


@pytest.fixture
def refused(judge) -> Callable[..., str]:
    """Evaluates the changed checkpoint; the one sentence that refuses it."""

    def sentence(changes: dict[str, Any], trust: Any = ()) -> str:
        with pytest.raises(UserError) as caught:
            judge(changes, trust)
        assert not Path(MARK).exists()
        said = str(caught.value)
        assert said.startswith("ckpt_path=x.ckpt: ")
        assert "\n" not in said
        return said.removeprefix("ckpt_path=x.ckpt: ")

    return sentence


ATTACKS = [
    SYMPIFY,
    {"_target_": "distutils.spawn.spawn", "cmd": ["touch", MARK]},
    {"_target_": "torch.load", "f": "evil.pkl", "weights_only": False},
    {"_target_": "torch.hub.load", "repo_or_dir": ".", "source": "local", "model": "model"},
    {"_target_": "joblib.load", "filename": "evil.pkl"},
    {"_target_": "numpy.load", "file": "evil.pkl", "allow_pickle": True},
    {"_target_": "os.system", "command": f"touch {MARK}"},
    {"_target_": "subprocess.Popen", "args": ["touch", MARK]},
    {"_target_": "builtins.eval", "_args_": [TOUCH]},
    {"_target_": "builtins.exec", "_args_": [TOUCH]},
    {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [MARK]}]},
    {"_target_": "hydra.utils.instantiate", "_args_": [SYMPIFY]},
    {"_target_": "dml.runs.trial.subprocess.Popen", "args": ["touch", MARK]},
    {"_target_": "dml.runs.checkpoints.torch.load", "f": "evil.pkl", "weights_only": False},
    {
        "_target_": "dml.models.weights.torch.hub.load",
        "repo_or_dir": ".",
        "source": "local",
        "model": "model",
    },
    {"_target_": "dml.runs.loggers.tensorboard_logger", "save_dir": MARK},
    {"_target_": "torchvision.transforms.v2.functional._utils.sys.setrecursionlimit", "_args_": [99]},
    {"_target_": "torchvision.transforms.v2.Lambda.__init__"},
    {"_target_": {"_target_": "sympy.sympify", "a": TOUCH}},
    {"_target_": None},
    {"_target_": "dml.data.cub.load", "root": "."},  # of an older version
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: str(attack["_target_"])[:60])
def test_only_the_packages_own_targets_are_built(refused, attack):
    said = refused({"dataset.split": attack})
    assert said.startswith("data.split.")
    target = attack["_target_"]
    if isinstance(target, str):
        assert said.startswith(f"data.split._target_={target} ") or "data.split._args_" in said
        assert ("use the version of dml that wrote it" if target.startswith("dml.") else "trust=…") in said


HIDDEN = {  # what is changed, and how the sentence begins
    "model": ({"model": SYMPIFY}, "model._target_=sympy.sympify "),
    "an argument": ({"model.pool": SYMPIFY}, "model.pool._target_="),
    "data": ({"data": SYMPIFY}, "data._target_="),
    "a number": ({"data.channels": SYMPIFY}, "data.channels._target_="),
    "a transform": ({"dataset.eval_transform": SYMPIFY}, "data.eval_transform._target_="),
    "a list": (
        {"dataset.eval_transform": {"_target_": COMPOSE, "transforms": [[SYMPIFY]]}},
        "data.eval_transform.transforms.0.0._target_=",
    ),
    "arguments by position": (
        {"dataset.eval_transform": {"_target_": COMPOSE, "_args_": [[SYMPIFY]]}},
        "data.eval_transform._args_.0.0._target_=",
    ),
    "an interpolation": ({"evil": SYMPIFY, "model.pool": "${evil}"}, "model.pool._target_="),
    "an interpolated target": (
        {"evil": "sympify", "model": {"_target_": "sympy.${evil}", "a": TOUCH}},
        "model._target_=sympy.sympify ",
    ),
    "what is not recursive": ({"model.pool": SYMPIFY, "model._recursive_": False}, "model.pool._target_="),
    "a partial": ({"dataset.split": SYMPIFY | {"_partial_": True}}, "data.split._target_="),
    "a model among the data": (
        {"dataset.eval_transform": {"_target_": "dml.models.torchvision_embedder", "name": "resnet18"}},
        "data.eval_transform._target_=",
    ),
    "the K of Recall@K": ({"dataset.recall_at": [SYMPIFY]}, "dataset.recall_at.0._target_="),
    "the name": ({"dataset.name": SYMPIFY}, "dataset.name._target_="),
    "the seed": ({"seed": SYMPIFY}, "data.seed._target_="),
    "the precision": ({"trainer.precision": SYMPIFY}, "trainer.precision._target_="),
    "words like Hydra's": ({"model._target_wrapper_": "sympy.sympify"}, "model._target_wrapper_ may not"),
    "download by position": (
        {"dataset.split": {"_target_": "dml.data.datasets.cub.load", "_args_": [".", True]}},
        "data.split._args_ may not",
    ),
}


@pytest.mark.parametrize(("changes", "begins"), HIDDEN.values(), ids=HIDDEN.keys())
def test_a_hidden_target_is_found(refused, changes, begins):
    assert refused(changes).startswith(begins)


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "a${oc.env:HOME}",
        "${oc.${x}:HOME}",
        "${${x}}",
        r"\${oc.env:HOME}",
        "${oc.decode:'1'}",
    ],
)
def test_nothing_is_looked_up_outside_the_checkpoint(refused, value):
    assert refused({"x": "env", "dataset.name": value}).startswith(f"dataset.name={value} would be looked up")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.pool": "${nowhere}"}, "model cannot be resolved (Interpolation key 'nowhere' not found"),
        ({"model.pool": "${model.pool}"}, "model cannot be resolved"),
        ({"model": "dml.models.convnet_embedder"}, "not a checkpoint written by dml.train"),
        ({"data": [1]}, "not a checkpoint written by dml.train"),
        ({"model.pool": torch.ones(2)}, "not a checkpoint written by dml.train"),
    ],
)
def test_a_configuration_that_is_none_is_one_sentence(refused, changes, said):
    assert said in refused(changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": -1}, "seed=-1 must be greater than or equal to 0"),
        ({"seed": "x"}, "seed=x must be"),
        ({"seed": [1]}, "seed=[1] must be"),
        ({"dataset.name": 3}, "dataset.name=3 must be"),
        ({"dataset.root": 3}, "dataset.root=3 must be"),
        ({"dataset.recall_at": []}, "dataset.recall_at=[] must have"),
        ({"dataset.recall_at": [0]}, "dataset.recall_at[0]=0 must be"),
        ({"dataset.recall_at": None}, "dataset.recall_at=null must be"),
        ({"dataset.recall_at": [1.5]}, "dataset.recall_at[0]=1.5 must be"),
        ({"dataset.split": None}, "data.split"),
        ({"dataset.split": {}}, "data.split says nothing that could be built"),
        ({"dataset.split": "here"}, "data.split"),
        ({"dataset.split._partial_": False}, "data.split._partial_ must be true"),
        ({"data._partial_": True}, "data._partial_ must be false"),
        ({"data.eval_batch_size": "many"}, "data.eval_batch_size=many must be"),
        ({"data.eval_batch_size": 0}, "data.eval_batch_size=0 must be"),
        ({"data.num_workers": -1}, "data.num_workers=-1 must be"),
        ({"data.more": 1}, "There is no key data.more"),
        ({"model": {}}, "model says nothing that could be built"),
        ({"model._partial_": True}, "model._partial_ must be false"),
        ({"model._partial_": "x"}, "model._partial_ must be false"),
        ({"model.embedding_dim": "wide"}, "model.embedding_dim=wide must be"),
        ({"model.more": 1}, "There is no key model.more"),
        ({"dataset.eval_transform": 3}, "data.eval_transform"),
    ],
)
def test_a_value_that_its_reader_does_not_take_is_one_sentence(refused, changes, said):
    assert said in refused(changes)


def test_weights_are_tensors(refused, content):
    content["state_dict"]["embedder.more"] = [1]
    assert "a weight is no tensor" in refused({})


def test_what_is_not_needed_is_not_looked_at(judge, tmp_path):
    """Neither where a run writes, nor how it trained: code of a user's own there needs no trust."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    unused = {
        "callbacks.recall": SYMPIFY,
        "callbacks.retrieval_grid.path": str(victim),
        "callbacks.best_checkpoint.dirpath": MARK,
        "logger.csv.save_dir": MARK,
        "logger.mine": SYMPIFY | {"name": "${oc.env:NOT_SET}"},
        "run_dir": MARK,
        "loss": SYMPIFY,
        "optimizer": SYMPIFY,
        "scheduler": SYMPIFY,
        "sampler": SYMPIFY,
        "memory": SYMPIFY,
        "trainer.plugins": [SYMPIFY],
        "trainer.default_root_dir": MARK,
        "dataset.train_transform": SYMPIFY,
        "dataset.extra_classes": SYMPIFY,
        "data.cache": "disk",
        "data.cache_dir": MARK,
        "model.weights": "evil.pkl",
    }
    assert judge(unused) == judge({})
    assert Path("run/retrievals.png").is_file()
    assert not Path(MARK).exists()
    assert victim.read_text() == "precious"


def test_nothing_is_fetched(judge, monkeypatch):
    """Neither images nor weights, whatever the checkpoint says, at any depth."""
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: pytest.fail("weights fetched"))
    loader = {"_target_": "dml.data.datasets.cub.load", "root": MARK, "download": True}
    with pytest.raises(UserError, match="does not hold CUB_200_2011"):
        judge({"dataset.split": loader | {"_partial_": True}, "dataset.download": True})
    with pytest.raises(UserError, match="does not hold CUB_200_2011"):
        judge({"dataset.eval_transform": {"_target_": COMPOSE, "transforms": [loader]}})
    network = {"_target_": "dml.models.torchvision_embedder", "name": "squeezenet1_0"}
    for model in (network, network | {"weights": "imagenet"}, network | {"pool": network}):
        with pytest.raises(UserError, match=r"x\.ckpt does not fit this model and loss: .*backbone|pool"):
            judge({"model": model, "dataset.channels": 3})
    assert not Path(MARK).exists()


# A user's own code ------------------------------------------------------------------------------------------------

MINE = """
import os
from functools import partial
from dml.data.datasets.digits import load
from dml.models import ConvNet, Embedder, Preprocessing, convnet_embedder

touch = partial(os.system, "touch {mark}")

def digits(canvas):
    return load(canvas)

class Network(convnet_embedder(1, embedding_dim=8, blocks=2, grid=2).__class__):
    pass

def network(**arguments):
    return convnet_embedder(**arguments)

class Backbone(ConvNet):
    def __init__(self):
        super().__init__(1, 2, 2)

class Whole(Embedder):
    def __init__(self, dim: int = 8):
        super().__init__(Backbone(), Preprocessing([0.0], [1.0]), dim, "max")
"""
OWN = {
    "dataset.split": {"_target_": "my_code.digits", "canvas": 16, "_partial_": True},
    "model._target_": "my_code.network",
}


@pytest.fixture
def my_code(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "my_code.py").write_text(MINE.replace("{mark}", MARK))
    (folder / "my.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    for name in ("my", "my_code"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("trust", ["my_code", ["my", "my_code"]])
def test_a_module_of_the_users_own_is_allowed_by_name(judge, my_code, trust):
    assert 0 <= judge(OWN, trust)["test/recall_at_1"] <= 1


@pytest.mark.parametrize("trust", [[], None, "my", "numpy"])
def test_without_it_own_code_is_refused(refused, my_code, trust):
    said = refused(OWN, trust)
    assert said.startswith("model._target_=my_code.network is none of this package's")
    assert "allow the module that defines it with trust=…" in said
    assert "my_code" not in sys.modules


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "touch",
        "partial",
        "load",
        "convnet_embedder",
        "Network.__class__",
        "Network.load_state_dict",
        "digits.__globals__",
        "digits.__globals__.get",
        "digits.__code__",
        "digits.__builtins__",
    ],
)
def test_a_trusted_module_is_no_way_to_what_it_imports(refused, my_code, path):
    said = refused({"dataset.split": {"_target_": f"my_code.{path}"}}, "my_code")
    assert said.startswith(f"data.split._target_=my_code.{path} is n")


@pytest.mark.parametrize("trust", ["no_code", "my_code.digits"])
def test_what_is_trusted_must_be_a_module(refused, my_code, trust):
    assert refused({}, trust).startswith(f"trust={trust} is no module that can be imported (")


def test_own_code_that_is_gone_is_named(refused, my_code):
    said = refused({"model._target_": "my_code.gone"}, "my_code")
    assert said == "model._target_=my_code.gone is not in its module; use the version of it that trained."


PARTS = {
    "_target_": "dml.models.Embedder",
    "backbone": {"_target_": "dml.models.ConvNet", "in_channels": 1, "blocks": 2, "grid": 2},
    "preprocessing": {"_target_": "dml.models.Preprocessing", "mean": [0.0], "std": [1.0]},
    "embedding_dim": 8,
    "pool": "max",
}


@pytest.mark.parametrize(
    "model",
    [
        PARTS,
        PARTS | {"backbone": {"_target_": "my_code.Backbone"}},
        {"_target_": "my_code.Whole"},
        {"_target_": "my_code.Whole", "dim": 8},
    ],
    ids=["of the package's parts", "own backbone", "own network", "with an argument"],
)
def test_a_model_without_weights_is_evaluated(judge, my_code, model):
    assert 0 <= judge({"model": model}, "my_code")["test/recall_at_1"] <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"_target_": "gone.Loss", "alpha": "${oc.env:NOT_SET}"}},
        {"loss.alpha": "${oc.env:NOT_SET}", "optimizer.lr": "${oc.env:NOT_SET}", "mining": "${x:1}"},
        {"trainer.max_steps": "${oc.env:NOT_SET}", "dataset.max_steps": "${oc.env:NOT_SET}"},
        {"dataset.train_transform": {"_target_": "gone.Crop", "size": "${oc.env:NOT_SET}"}},
        {"protocol": "${oc.env:NOT_SET}"},
        {"seeds": ["${oc.env:NOT_SET}"], "mine": {"a": [{"b": "${oc.env:NOT_SET}"}]}},
    ],
)
def test_training_may_have_read_its_environment(content, changes):
    torch.save(content, "x.ckpt")
    config = OmegaConf.create(content["config"])
    for key, value in changes.items():
        OmegaConf.update(config, key, value, merge=False)
    torch.save(content | {"config": OmegaConf.to_container(config)}, "changed.ckpt")
    assert read_run("changed.ckpt").config == read_run("x.ckpt").config


def test_what_it_read_there_is_not_read_again(refused):
    assert refused({"mine": "${oc.env:HOME}", "model.pool": "${mine}"}).startswith("model cannot be resolved")


# The door itself --------------------------------------------------------------------------------------------------


def test_what_is_read_is_plain(content):
    content["config"]["width"] = 2
    content["config"]["model"] |= {"blocks": "${width}", "freeze": "backbone", "compile": True}
    content["state_dict"]["loss.proxies"] = torch.ones(3)
    torch.save(content, "x.ckpt")
    run = read_run("x.ckpt", {"data.num_workers": 0})
    assert (run.config.model.blocks, run.config.data.num_workers, run.config.dataset.name) == (2, 0, "digits")
    assert "${" not in OmegaConf.to_yaml(run.config)
    assert run.config.keys() == {"model", "data", "dataset", "seed", "trainer"}
    build(run.config.model).load_state_dict(run.weights)
