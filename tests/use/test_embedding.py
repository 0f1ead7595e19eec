"""`dml.load(…).embed(…)`: the embeddings of the run's own test, from files, PIL images and arrays."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_benchmarks import write_tree
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from PIL import Image

import dml
from dml.callbacks.retrieval_metrics import RetrievalMetrics
from dml.config.cli import CONF
from dml.errors import UserError
from dml.runs.evaluation import evaluate
from dml.runs.training import train


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write_tree(tmp_path_factory.mktemp("images"), {f"class {i}": 4 for i in range(6)})


@pytest.fixture(scope="module")
def run(images, tmp_path_factory) -> Path:
    """The folder of a run on colour images with a resize and a crop."""
    folder = tmp_path_factory.mktemp("run")
    transforms = (
        "dataset.resize.size=40",
        "dataset.eval_transform.size=32",
        "dataset.train_transform.transforms.0.size=32",
    )
    model = ("model=convnet", "model.blocks=2", "sampler.classes_per_batch=2", "sampler.images_per_class=2")
    quick = ("debug=fast", "trainer=cpu", "data.num_workers=0", "callbacks.retrieval_grid=null")
    with initialize_config_dir(CONF, version_base="1.3"):
        given = ("dataset=folder", f"dataset.root={images}", f"run_dir={folder}")
        config = hydra_compose("train", [*given, *model, *transforms, *quick])
    train(config)
    return folder


def test_embeddings_are_those_of_the_evaluation(compose, tmp_path, images, run, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        RetrievalMetrics, "collapse", lambda self: seen.update(z=self.embeddings, queries=self) or {}
    )
    best = run / "checkpoints" / "best.ckpt"
    quick = ("trainer.accelerator=cpu", "report=false", "callbacks.retrieval_grid=null")
    evaluate(compose(f"ckpt_path={best}", *quick, name="evaluate", folder="evaluation"))
    names = [
        line.split(",")[0] for line in (tmp_path / "evaluation" / "queries.csv").read_text().splitlines()[1:]
    ]
    files = [images / name for name in names]
    embedder = dml.load(best)
    z = embedder.embed(files)
    assert (z.dtype, z.shape) == (np.float32, (len(files), embedder.embedding_dim))
    assert np.allclose(z, seen["z"].numpy(), atol=1e-6)
    assert np.allclose(embedder.embed([*map(str, files)], batch_size=5), z, atol=1e-6)
    assert np.allclose(embedder.embed([Image.open(file) for file in files]), z, atol=1e-6)
    assert np.allclose(
        embedder.embed([np.asarray(Image.open(file)) for file in files], num_workers=1), z, atol=1e-6
    )


def test_one_image_is_a_row_and_none_are_no_rows(run):
    embedder = dml.load(run)
    pixels = np.zeros((50, 60, 3), dtype=np.uint8)
    assert (
        embedder.embed(pixels).shape
        == embedder.embed(Image.fromarray(pixels)).shape
        == (1, embedder.embedding_dim)
    )
    assert np.array_equal(embedder.embed(np.stack([pixels, pixels])), embedder.embed([pixels, pixels]))
    assert embedder.embed([]).shape == (0, embedder.embedding_dim)
    grey, turned = Image.fromarray(pixels[:, :, 0]), Image.fromarray(pixels).convert("RGBA")
    assert embedder.embed([grey, turned]).shape == (2, embedder.embedding_dim)


def test_the_fingerprint_is_that_of_weights_and_preprocessing(run, tmp_path):
    best = run / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    content["config"]["dataset"]["eval_transform"]["size"] = 31
    torch.save(content, tmp_path / "crop.ckpt")
    content["state_dict"]["embedder.head.bias"] += 1
    torch.save(content, tmp_path / "weights.ckpt")
    paths = (best, run, tmp_path / "crop.ckpt", tmp_path / "weights.ckpt")
    first, again, *others = (dml.load(path).fingerprint for path in paths)
    assert first == again
    assert len({first, *others}) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((4, 4, 3)), r"float64 of shape \(4, 4, 3\) is no image"),
        (np.zeros((4, 4, 2), dtype=np.uint8), r"uint8 of shape \(4, 4, 2\) is no image"),
        ("nowhere.jpg", r"nowhere\.jpg is missing or a broken link"),
    ],
)
def test_what_is_no_image_is_one_sentence(run, given, said):
    with pytest.raises(UserError, match=said):
        dml.load(run).embed([given])


def test_an_array_with_transparency_is_not_taken_for_rows_of_images(run):
    with pytest.raises(UserError, match=r"uint8 of shape \(9, 9, 4\) is no image"):
        dml.load(run).embed(np.zeros((9, 9, 4), dtype=np.uint8))


def test_what_is_no_checkpoint_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        dml.load(tmp_path)


def test_importing_the_package_does_not_import_torch():
    code = "import dml, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
