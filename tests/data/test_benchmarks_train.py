"""Every benchmark, tiny, from its folder to its figures under its own names."""

from pathlib import Path
from typing import Any

import pytest
from fake_benchmarks import write_cars, write_cub, write_inshop, write_sop

from dml.data.split import Counts
from dml.runs.training import train

SIZES = Counts(train_classes=4, test_classes=3, train_images=12, query_images=9)
RUN = (
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


@pytest.mark.parametrize(
    ("name", "write", "ks", "gallery"),
    [
        ("cub", write_cub, [1, 2, 4, 8, 16, 32], 0),
        ("cars", write_cars, [1, 2, 4, 8], 0),
        ("sop", write_sop, [1, 10, 100, 1000], 0),
        ("inshop", write_inshop, [1, 10, 20, 30, 40, 50], 6),
    ],
)
def test_a_benchmark_is_judged_at_its_own_ks(
    compose, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, write, ks: list[int], gallery: int
) -> None:  # type: ignore[no-untyped-def]
    counts = SIZES._replace(gallery_images=gallery)
    root = write(tmp_path / "data", counts)
    config = compose(f"dataset={name}", *RUN, f"dataset.root={root}", "protocol=holdout", counted(counts))
    figures: dict[str, Any] = train(config)
    judged = {figure for figure in figures if figure.startswith("test/recall_at_")}
    assert judged == {f"test/recall_at_{k}" for k in ks}
    assert figures["fingerprint"] in capsys.readouterr().out
    assert figures["protocol"].startswith("holdout: ")
    # Each query has something to find, in the gallery or among the other queries.
    assert figures["test/queries_without_positives"] == 0
    assert figures[f"test/recall_at_{ks[-1]}"] == 1


def counted(counts: Counts) -> str:
    """The override that has the loader expect so many."""
    fields = ",".join(f"{field}:{size}" for field, size in counts._asdict().items())
    return f"+dataset.split.counts={{_target_:dml.data.split.Counts,{fields}}}"
