"""`embeddings=true`: the test embeddings and their table, as Embedding Atlas reads it."""

import numpy as np
import pytest
from fake_benchmarks import write_tree

from dml.errors import UserError
from dml.runs.embeddings import positions
from dml.runs.evaluation import evaluate
from dml.runs.queries import read_queries

MODEL = (
    "model=convnet",
    "model.blocks=2",
    "dataset.channels=1",
    "dataset.resize=null",
    "dataset.eval_transform=null",
)


def test_rows_are_the_images_of_the_test(compose, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    for role, images in (("train", 4), ("query", 3), ("gallery", 5)):
        first = 0 if role == "train" else 4
        write_tree(tmp_path / "images" / role, {f"class {first + i}": images for i in range(4)})
    given = (
        "dataset=folder",
        f"dataset.root={tmp_path / 'images'}",
        *MODEL,
        "embeddings=true",
        "report=false",
    )
    evaluate(compose(*given, "trainer.accelerator=cpu", "callbacks.retrieval_grid=null", name="evaluate"))
    table = parquet.read_table(tmp_path / "run" / "embeddings.parquet").to_pydict()
    z_ND = np.load(tmp_path / "run" / "embeddings.npy")
    assert (z_ND.dtype, len(z_ND)) == (np.float32, len(table["name"]))
    assert table["role"] == ["query"] * 12 + ["gallery"] * 20
    queries = read_queries(tmp_path / "run")
    assert table["name"][:12] == [row["name"] for row in queries.rows]
    assert table["class"][:12] == queries.class_Q.tolist()
    assert np.isfinite(table["projection_x"] + table["projection_y"]).all()
    for n, near in enumerate(table["neighbors"]):
        S_N = z_ND @ z_ND[n]
        S_N[n] = -np.inf
        assert len(near["ids"]) == 10
        assert n not in near["ids"]
        assert np.allclose(1 - np.array(near["distances"]), np.sort(S_N)[::-1][:10], atol=1e-5)
        assert np.allclose(S_N[near["ids"]], 1 - np.array(near["distances"]), atol=1e-5)


def test_images_beyond_the_sample_lie_among_their_neighbours():
    generator = np.random.default_rng(0)
    label_N = np.repeat(np.arange(4), 60)
    z_ND = np.eye(4, 8)[label_N] + 0.05 * generator.normal(size=(240, 8))
    z_ND = (z_ND / np.linalg.norm(z_ND, axis=1, keepdims=True)).astype(np.float32)
    x_N2 = positions(z_ND, label_N, seed=0, at_most=60)
    centre_C2 = np.stack([x_N2[label_N == c].mean(axis=0) for c in range(4)])
    nearest_N = np.linalg.norm(x_N2[:, None] - centre_C2, axis=2).argmin(axis=1)
    assert (nearest_N == label_N).mean() > 0.95


def test_without_pyarrow_it_is_refused_before_the_work(compose, monkeypatch):
    monkeypatch.setattr("dml.config.check.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'needs pyarrow: pip install "dml\[parquet\]"'):
        evaluate(compose("dataset=digits", "model=convnet", "embeddings=true", name="evaluate"))
