"""Weights load whole or not at all."""

import shutil
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from dml.errors import UserError
from dml.models import bninception_embedder, torchvision_embedder
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
