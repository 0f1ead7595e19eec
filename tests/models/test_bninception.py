"""BN-Inception against its published names, shapes and feature maps."""

import json
import zlib
from pathlib import Path

import pytest
import torch

from dml.models import BNInception, bninception_embedder


def reference_tensor(name: str, shape: list[int]) -> torch.Tensor:
    """The rule by which the golden outputs' weights were made, a tensor from its name alone."""
    r = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name.endswith("running_var"):
        return 1 + 0.1 * r.abs()
    if name.endswith("_bn.weight"):
        return 1 + 0.1 * r
    if name.endswith(".weight"):
        return r * (2 / r[0].numel()) ** 0.5
    return 0.1 * r


@pytest.fixture(scope="module")
def reference(shared_dir: Path) -> dict:
    return json.loads((shared_dir / "weights" / "bninception_reference.json").read_text())


def published_names(network: BNInception) -> dict[str, list[int]]:
    state = network.state_dict()
    return {k: list(t.shape) for k, t in state.items() if not k.endswith("num_batches_tracked")}


def test_has_as_many_parameters_as_published() -> None:
    assert sum(p.numel() for p in BNInception().parameters()) == 10_270_240


def test_names_and_shapes_of_one_block_of_each_kind() -> None:
    shapes = published_names(BNInception())
    assert shapes["conv1_7x7_s2.weight"] == [64, 3, 7, 7]
    assert shapes["conv1_7x7_s2_bn.running_mean"] == [64]
    assert shapes["conv2_3x3.weight"] == [192, 64, 3, 3]
    assert shapes["inception_3a_1x1.weight"] == [64, 192, 1, 1]
    assert shapes["inception_3a_double_3x3_2.weight"] == [96, 96, 3, 3]
    assert shapes["inception_3a_pool_proj.bias"] == [32]
    # 3c halves the map: neither a 1×1 branch nor a projection of the pooled one.
    assert {name.split(".")[0].removesuffix("_bn") for name in shapes if "_3c_" in name} == {
        f"inception_3c_{unit}"
        for unit in ("3x3_reduce", "3x3", "double_3x3_reduce", "double_3x3_1", "double_3x3_2")
    }
    assert shapes["inception_5b_1x1.weight"] == [352, 1024, 1, 1]
    assert len(shapes) == 69 * 6  # 69 convolutions with bias, each with four tensors of batch norm


def test_names_and_shapes_are_the_published_ones(reference: dict) -> None:
    assert published_names(BNInception()) == reference["shapes"]


@pytest.mark.parametrize("side", [224, 227])
def test_feature_maps_are_the_golden_ones(reference: dict, side: int) -> None:
    network = BNInception().eval()
    state = {name: reference_tensor(name, shape) for name, shape in reference["shapes"].items()}
    assert not network.load_state_dict(state, strict=False).unexpected_keys
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
    with torch.no_grad():
        maps = network(images)
    golden = reference["golden"]
    assert list(maps.shape) == golden[f"map_shape_{side}"] == [2, 1024, 7, 7]
    for name, pooled in (("max", maps.amax((2, 3))), ("mean", maps.mean((2, 3)))):
        wanted = torch.tensor(golden[f"{name}_{side}"])
        torch.testing.assert_close(pooled[:, ::16], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "map_side"), [(64, 2), (112, 4), (128, 4), (256, 8)])
def test_takes_other_sizes(side: int, map_side: int) -> None:
    with torch.no_grad():
        assert BNInception().eval()(torch.randn(1, 3, side, side)).shape == (1, 1024, map_side, map_side)


def test_loads_a_file_like_the_published_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = BNInception()
    state = {k: t for k, t in saved.state_dict().items() if not k.endswith("num_batches_tracked")}
    state |= {"last_linear.weight": torch.zeros(1000, 1024), "last_linear.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "published.pth")
    loaded = bninception_embedder(weights=str(tmp_path / "published.pth")).backbone.state_dict()
    assert all(torch.equal(loaded[key], saved.state_dict()[key]) for key in loaded)


def test_takes_blue_first_and_up_to_255() -> None:
    embedder = bninception_embedder(weights=None)
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert embedder.preprocessing(red).flatten().tolist() == [-104, -117, 255 - 128]
