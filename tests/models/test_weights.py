"""Weights load whole or not at all."""

import os
import re
import shutil
import urllib.error
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from dml.errors import Note, UserError
from dml.models import Embedder, bninception_embedder, convnet_embedder, torchvision_embedder
from dml.models.weights import Published, load_weights

NOWHERE = Published(url=None, surplus=("classifier.weight",))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def save(path: Path, **changes: Tensor | None) -> str:
    """A network's state dict with some entries changed, or left out; `a__b` stands for the key `a.b`."""
    state = {**network().state_dict(), **{key.replace("__", "."): t for key, t in changes.items()}}
    torch.save({key: t for key, t in state.items() if t is not None}, path)
    return str(path)


def refused(weights: str, message: str) -> None:
    """Refused with a message, and not a single tensor touched."""
    target = network()
    before = {key: t.clone() for key, t in target.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(target, weights, NOWHERE)
    assert all(torch.equal(before[key], t) for key, t in target.state_dict().items())


def test_loads_every_tensor_and_passes_over_the_classifier(tmp_path: Path) -> None:
    weights = {"1__running_var": torch.tensor([5.0, 6.0]), "classifier__weight": torch.zeros(3)}
    target = network()
    load_weights(target, save(tmp_path / "w.pth", **weights), NOWHERE)
    assert target[1].running_var.tolist() == [5, 6]
    saved = torch.load(tmp_path / "w.pth", weights_only=True)
    assert all(torch.equal(saved[key], t) for key, t in target.state_dict().items())


def test_none_leaves_the_network_alone() -> None:
    refused_nothing = network()
    before = refused_nothing[0].weight.clone()
    load_weights(refused_nothing, None, NOWHERE)
    assert torch.equal(before, refused_nothing[0].weight)


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    load_weights(network(), save(tmp_path / "w.pth", **{"1__num_batches_tracked": None}), NOWHERE)


def test_missing_keys(tmp_path: Path) -> None:
    file = save(tmp_path / "w.pth", **{"0__bias": None, "1__running_mean": None})
    refused(file, r"w\.pth does not fit .* 2 missing: 0\.bias, 1\.running_mean\.")


def test_surplus_keys(tmp_path: Path) -> None:
    file = save(tmp_path / "w.pth", **{f"extra{i}": torch.zeros(1) for i in range(4)})
    refused(file, r"w\.pth does not fit .* 4 surplus: extra0, extra1, extra2, …\.")


def test_wrong_shapes(tmp_path: Path) -> None:
    file = save(tmp_path / "w.pth", **{"0__bias": torch.zeros(3)})
    refused(file, r"1 of another shape: 0\.bias \(3,\) for \(2,\)\.")


def test_another_architecture(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_0(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    with pytest.raises(
        UserError, match=r"squeezenet\.pth .* missing: conv1_7x7_s2\.weight.* surplus: features"
    ):
        bninception_embedder(weights=str(tmp_path / "squeezenet.pth"))


def test_no_such_file(tmp_path: Path) -> None:
    refused(str(tmp_path / "none.pth"), r"none\.pth is not a file")
    refused(str(tmp_path), "is not a file")


def test_no_state_dict(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": network().state_dict()}, tmp_path / "run.ckpt")
    refused(str(tmp_path / "run.ckpt"), r"run\.ckpt is not a state dict.*ckpt_path")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(str(tmp_path / "list.pth"), r"list\.pth is not a state dict")


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"<html>not found</html>")
    refused(str(tmp_path / "w.pth"), r"w\.pth cannot be read")
    (tmp_path / "empty.pth").touch()
    refused(str(tmp_path / "empty.pth"), r"empty\.pth cannot be read")


def test_truncated_file(tmp_path: Path) -> None:
    file = Path(save(tmp_path / "w.pth"))
    file.write_bytes(file.read_bytes()[:-200])
    refused(str(file), r"w\.pth cannot be read")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(
        UserError, match=r"bn_inception-52deb4733\.pth.*no route.*set model\.weights to its path"
    ):
        bninception_embedder(weights="imagenet")
    with pytest.raises(UserError, match=r"squeezenet1_0-b66bff10\.pth.*no route"):
        torchvision_embedder("squeezenet1_0", weights="imagenet")


def test_imagenet_is_checked_like_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_dir: Path
) -> None:
    state = torch.load(shared_dir / "weights" / "squeezenet1_0-imagenet.pth", weights_only=True)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda url, **_: state)
    embedder = torchvision_embedder("squeezenet1_0", weights="imagenet")
    assert torch.equal(
        embedder.backbone.features.state_dict()["features.0.weight"], state["features.0.weight"]
    )
    with pytest.raises(UserError, match="weights=imagenet does not fit"):
        torchvision_embedder("squeezenet1_1", weights="imagenet")


def test_densenets_old_names(tmp_path: Path) -> None:
    state = models.densenet121(weights=None).state_dict()
    old = {
        key.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1")
        if "denselayer" in key
        else key: t
        for key, t in state.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet.pth")
    loaded = torchvision_embedder("densenet121", weights=str(tmp_path / "densenet.pth")).backbone.features
    assert all(torch.equal(t, state[key]) for key, t in loaded.state_dict().items())


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "w.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    load_weights(network(), "~/w.pth", NOWHERE)
    shutil.rmtree(tmp_path)
    refused("~/w.pth", "is not a file")


# A run's checkpoint ------------------------------------------------------------------------------------------------


def run(path: Path, embedder: nn.Module, **more: object) -> str:
    """A checkpoint as dml.train would write it, of a network and a loss with a parameter."""
    state = {f"embedder.{key}": t for key, t in embedder.state_dict().items()} | {
        "loss.proxies": torch.ones(2)
    }
    torch.save({"state_dict": state, "config": {"model": {}}, "global_step": 3} | more, path)
    return str(path)


NETWORKS: dict[str, Callable[..., Embedder]] = {
    "convnet": partial(convnet_embedder, 1, blocks=2),
    "bninception": partial(bninception_embedder, weights=None),
    "torchvision": partial(torchvision_embedder, "squeezenet1_0", weights=None),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_run_starts_from_another_runs_network(tmp_path: Path, make: Callable[..., Embedder]) -> None:
    trained = make(embedding_dim=4)
    weights = run(tmp_path / "best.ckpt", trained)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        same = make(embedding_dim=4, weights=weights).state_dict()
    assert all(torch.equal(t, same[key]) for key, t in trained.state_dict().items())


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (4, 8, "has a head of 4×64, and this model a head of 8×64: it starts anew"),
        (None, 8, "has no head, and this model a head of 8×64: it starts anew"),
        (4, None, "has a head of 4×64, and this model no head: it is left out"),
    ],
)
def test_a_head_of_another_shape_starts_anew(
    tmp_path: Path, was: int | None, now: int | None, said: str
) -> None:
    trained = convnet_embedder(1, was, blocks=2)
    torch.manual_seed(0)
    anew = convnet_embedder(1, now, blocks=2)
    torch.manual_seed(0)
    with pytest.warns(Note, match=re.escape(f"best.ckpt {said}")):
        started = convnet_embedder(1, now, blocks=2, weights=run(tmp_path / "best.ckpt", trained))
    for key, t in started.state_dict().items():
        assert torch.equal(t, (anew if key.startswith("head.") else trained).state_dict()[key])


class Executed:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "does not fit this model: 5 missing: backbone.blocks.2.0.weight,"),
        ({"state_dict": {}}, "does not fit this model: 15 missing: backbone"),
        ({"state_dict": {"loss.proxies": torch.ones(2)}}, "does not fit this model: 15 missing"),
        ({"state_dict": {"embedder.head.weight": torch.ones(2)}}, "does not fit this model: 15 missing"),
        ({"state_dict": {"embedder.head.weight": [1]}}, "is not a checkpoint written by dml.train"),
        ({"state_dict": None}, "is not a checkpoint written by dml.train"),
        ({"config": None}, "is not a state dict"),
        ({"evil": Executed()}, "cannot be read (UnpicklingError)"),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = run(tmp_path / "best.ckpt", convnet_embedder(1, 4, blocks=2), **more)
    with pytest.raises(UserError, match=re.escape(f"model.weights={weights} {said}")):
        convnet_embedder(1, 4, blocks=3, weights=weights)
    assert not Path("executed").exists()


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    file = Path(run(tmp_path / "best.ckpt", convnet_embedder(1, 4, blocks=2)))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"best\.ckpt cannot be read \(BadZipFile\)"):
        convnet_embedder(1, 4, blocks=2, weights=str(file))
