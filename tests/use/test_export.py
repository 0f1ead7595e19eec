"""`python -m dml.export`: what is kept embeds as the checkpoint does, also where there is no torch."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, v2

import dml
from dml.config.cli import CONF
from dml.data.datasets.annotations import files_below
from dml.errors import UserError
from dml.models.convnet import convnet_embedder
from dml.runs.training import train
from dml.use.export import export, parity
from dml.use.formats import (
    FORMATS,
    Format,
    adaptive_max_pool2d,
    read_onnx,
    read_pt2,
    write_onnx,
    write_pt2,
)
from dml.use.model_card import steps

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs" / "export.md").read_text(), re.DOTALL)[1]
WITHOUT_TORCH = """
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "dml"}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Forbidden())
"""


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(name, overrides=[*overrides])


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of 104 images of many sizes, upright and lying, soft colours so that resizing leaves differences."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(104):
        (folder / f"class {number % 4}").mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        size = tuple(rng.integers(20, 60, 2).tolist())
        small.resize(size, Image.Resampling.BICUBIC).save(folder / f"class {number % 4}" / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def run(images, tmp_path_factory) -> Path:
    """The folder of a run with a resize and a crop."""
    folder = tmp_path_factory.mktemp("run")
    sizes = (
        "dataset.resize.size=24",
        "dataset.eval_transform.size=20",
        "dataset.train_transform.transforms.0.size=20",
    )
    model = ("model=convnet", "model.blocks=2", "sampler.classes_per_batch=2", "sampler.images_per_class=2")
    data = ("dataset=folder", f"dataset.root={images}", "data.num_workers=0")
    quick = ("debug=fast", "trainer=cpu", "callbacks.retrieval_grid=null", "callbacks.recall.nmi=false")
    train(composed("train", *data, *model, *sizes, *quick, f"run_dir={folder}"))
    return folder


def exported(run: Path, images: Path, folder: Path, *overrides: str) -> Path:
    export(composed("export", f"ckpt_path={run}", f"images={images}", f"run_dir={folder}", *overrides))
    return folder


@pytest.fixture(scope="module")
def kept(run, images, tmp_path_factory) -> Callable[[str], Path]:
    """The folder of the run's export in a format, made once."""

    @cache
    def folder(form: str) -> Path:
        for package in FORMATS[form].packages:
            pytest.importorskip(package)
        return exported(run, images, tmp_path_factory.mktemp(form), f"format={form}")

    return folder


def test_onnx_finds_the_same_nearest_images_without_torch(run, images, kept):
    files = [*map(str, files_below(images))]
    code = [sys.executable, "-c", WITHOUT_TORCH + EXAMPLE, str(kept("onnx"))]
    done = subprocess.run([*code, *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    z_ND = dml.load(run, device="cpu").embed(files)
    S_NN = z_ND @ z_ND.T
    np.fill_diagonal(S_NN, -1)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], row[1]) for row in rows] == [
        (file, files[n]) for file, n in zip(files, S_NN.argmax(1), strict=True)
    ]
    assert np.allclose([float(row[2]) for row in rows], S_NN.max(1), atol=2e-4)


def test_pt2_embeds_batches_of_any_size(run, kept):
    embed = read_pt2(kept("pt2") / "model.pt2")
    trained = dml.load(run, device="cpu")
    pixels_BCHW = torch.randint(0, 256, (5, 3, 20, 20), dtype=torch.uint8)
    for size in (1, 2, 5):
        batch = pixels_BCHW[:size]
        assert np.allclose(embed(batch.numpy()), trained.embed_batch(batch).numpy(), atol=1e-5)


def test_the_card_says_what_a_program_needs(run, kept):
    card = json.loads((kept("pt2") / "model.json").read_text())
    trained = dml.load(run)
    assert card["input"] == {
        "name": "images",
        "shape": ["batch", 3, 20, 20],
        "dtype": "uint8",
        "channels": "RGB",
    }
    assert card["output"]["shape"] == ["batch", trained.embedding_dim]
    assert card["fingerprint"] == trained.fingerprint
    assert [step["name"] for step in card["preprocessing"]] == ["Resize", "CenterCrop"]
    assert card["parity"]["images"] == card["parity"]["same_nearest"] == 32
    assert card["parity"]["largest_difference"] < 1e-4


@pytest.mark.parametrize("format", FORMATS)
def test_no_path_of_this_machine_is_in_the_model(kept, format):
    content = (kept(format) / f"model.{format}").read_bytes()
    assert str(REPOSITORY).encode() not in content
    assert b"site-packages" not in content


def test_what_embeds_otherwise_is_not_kept(run, images, tmp_path, monkeypatch):
    def write_wrong(network, example, file):
        with torch.no_grad():
            network.head.bias[0] += 0.01
            write_pt2(network, example, file)
            network.head.bias[0] -= 0.01

    monkeypatch.setitem(FORMATS, "pt2", Format((), write_wrong, read_pt2))
    with pytest.raises(UserError, match=r"model\.pt2 is not kept: on 32 images .* by up to 0\.00"):
        exported(run, images, tmp_path, "format=pt2")
    assert not list(tmp_path.iterdir())


def test_parity_by_hand():
    checkpoint_ND = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    assert parity(checkpoint_ND, checkpoint_ND) == (3, 0.0, 3)
    other_ND = np.array([[0.6, 0.8], [0.8, 0.6], [1, 0]], dtype=np.float32)
    found = parity(checkpoint_ND, other_ND)
    assert (found.largest_difference, found.holds) == (pytest.approx(0.8), False)
    # Under the checkpoint 0.8, 0.96, 0.96 are the nearest; the other's neighbours are 1, 0, 1.
    assert found.same_nearest == 2
    assert not parity(checkpoint_ND, checkpoint_ND * np.float32("nan")).holds


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["ckpt_path=nowhere.ckpt"], r"ckpt_path=nowhere\.ckpt: there is no such file"),
        (["images=nowhere"], "images=nowhere is not a folder"),
        (["images={empty}"], "holds fewer than two images"),
        (["images=null"], "images is missing: give it"),
        (["format=tflite"], "format=tflite must be 'onnx' or 'pt2'"),
        (["run_dir={file}/below"], r"cannot be used \(not a directory\)"),
        (["images={broken}"], r"b\.png is empty or not an image"),
    ],
)
def test_bad_input_is_one_sentence(run, images, tmp_path, changes, said):
    (tmp_path / "file").touch()
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.png").write_bytes((images / "class 0" / "000.png").read_bytes())
    (tmp_path / "broken" / "b.png").touch()
    places = {name: tmp_path / name for name in ("empty", "broken", "file")}
    overrides = [change.format(**places) for change in changes]
    with pytest.raises(UserError, match=said):
        exported(run, images, tmp_path / "out", "format=pt2", *overrides)
    assert not list(tmp_path.glob("out/*"))


def test_a_package_that_is_not_there_is_named_with_the_command(run, images, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "onnx", Format(("onnx_of_tomorrow",), write_pt2, read_pt2))
    with pytest.raises(UserError, match="pip install onnx_of_tomorrow"):
        exported(run, images, tmp_path)


def test_the_command_prints_its_folder_last(run, images, tmp_path, typed):
    out = f"hydra.run.dir={tmp_path / 'out'}"
    done = typed("dml.export", f"ckpt_path={run}", f"images={images}", "format=pt2", out)
    assert done.out.splitlines()[-1] == str(tmp_path / "out"), done.err
    assert {"model.pt2", "model.json"} <= {file.name for file in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(("height", "width", "grid"), [(4, 4, (2, 2)), (7, 12, (3, 5)), (5, 3, (1, 3))])
def test_the_pooling_that_onnx_lacks_is_torchs(height, width, grid):
    maps_BFhw = torch.randn(2, 3, height, width)
    assert torch.equal(adaptive_max_pool2d(maps_BFhw, grid)[0], F.adaptive_max_pool2d(maps_BFhw, grid))


def test_a_network_that_keeps_places_is_written_as_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    network = convnet_embedder(in_channels=1, blocks=2, grid=2).eval()
    images_BCHW = torch.randint(0, 256, (3, 1, 18, 15), dtype=torch.uint8)
    write_onnx(network, images_BCHW, tmp_path / "model.onnx")
    found = read_onnx(tmp_path / "model.onnx")(images_BCHW.numpy())
    assert np.allclose(found, network(images_BCHW).detach().numpy(), atol=1e-5)


def test_steps_are_in_torchvisions_words():
    blur = v2.GaussianBlur(3)
    whole = v2.Compose([v2.Resize((5, 6), interpolation=3), v2.Compose([blur]), v2.CenterCrop(4)])
    assert steps(whole) == [
        {"name": "Resize", "size": [5, 6], "max_size": None, "interpolation": "bicubic"},
        {"name": "GaussianBlur", "text": str(blur)},
        {"name": "CenterCrop", "size": [4, 4]},
    ]
    assert steps(v2.Resize(7, InterpolationMode.NEAREST))[0]["interpolation"] == "nearest"
    assert steps(None) == []
