"""docs/reproduction.md is what its script makes; its figures and the README's are those of the experiments."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("reproduction", ROOT / "scripts" / "reproduction.py")
assert spec is not None
assert spec.loader is not None
reproduction = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reproduction)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of documents with the committed runs."""
    (tmp_path / "docs").mkdir()
    committed = ROOT / "docs" / "reproduction.json"
    (tmp_path / "docs" / "reproduction.json").write_text(committed.read_text())
    return tmp_path / "docs"


def a_run(folder: Path, recall: float, seed: int = 0, overrides: tuple[str, ...] = ()) -> Path:
    """The folder of a run of w19_cars_512, as training leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    words = ["experiment=w19_cars_512", "dataset.root=x", f"seed={seed}", *overrides]
    hydra = {"runtime": {"choices": {"experiment": "w19_cars_512"}}, "overrides": {"task": words}}
    OmegaConf.save({"hydra": hydra}, folder / ".hydra" / "hydra.yaml")
    figures = {
        "test/recall_at_1": recall,
        "test/recall_at_2": 0.9,
        "intervals": {"test/recall_at_1": [recall - 0.02, recall + 0.02]},
        "seed": seed,
        "fingerprint": "abc",
    }
    (folder / "metrics.json").write_text(json.dumps(figures))
    return folder


def row(docs: Path) -> str:
    text = (docs / "reproduction.md").read_text()
    [line] = [line for line in text.splitlines() if "experiment=w19_cars_512`" in line]
    return line


def test_the_document_is_what_the_command_makes(docs: Path) -> None:
    reproduction.main([], docs)
    for name in ("reproduction.md", "reproduction.json"):
        assert (docs / name).read_text() == (ROOT / "docs" / name).read_text(), (
            f"docs/{name} is out of date: run python scripts/reproduction.py"
        )


def test_a_run_is_entered_with_its_difference_and_interval(tmp_path: Path, docs: Path) -> None:
    (docs / "reproduction.json").unlink()
    reproduction.main([], docs)
    assert "not run: needs the images" in row(docs)
    other = a_run(tmp_path / "b", 0.83, 1, ("trainer.max_steps=100",))
    reproduction.main([str(a_run(tmp_path / "a", 0.835)), str(other)], docs)
    assert "not run" not in row(docs)
    assert "83.50, Δ -0.60, 95% [81.5, 85.5], seed 0<br>" in row(docs)
    assert "83.00, Δ -1.10, 95% [81.0, 85.0], seed 1, with trainer.max_steps=100 |" in row(docs)
    # The same run again replaces it; the others stay.
    reproduction.main([str(a_run(tmp_path / "again", 0.85))], docs)
    assert "85.00" in row(docs)
    assert "83.50" not in row(docs)
    assert "83.00" in row(docs)


def test_what_is_no_run_of_an_experiment_is_one_sentence(tmp_path: Path, docs: Path) -> None:
    before = (docs / "reproduction.json").read_text()
    with pytest.raises(SystemExit, match=r"holds no metrics\.json"):
        reproduction.main([str(tmp_path)], docs)
    failed = a_run(tmp_path / "failed", 0.5)
    (failed / "metrics.json").write_text('{"error": "out of memory"}')
    with pytest.raises(SystemExit, match="no finished run of an experiment"):
        reproduction.main([str(failed)], docs)
    assert (docs / "reproduction.json").read_text() == before


def published() -> dict[str, dict[str, Any]]:
    return {
        file.stem: OmegaConf.to_container(node)  # type: ignore[misc]
        for file in (ROOT / "conf" / "experiment").glob("*.yaml")
        if (node := OmegaConf.load(file).get("published")) is not None
    }


def test_the_readmes_figures_are_those_of_the_recipes_it_names() -> None:
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if "experiment=" in line]
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert len(rows) == 4
    for _, figure, _, command in rows:
        found = re.search(r"experiment=(\w+)", command)
        assert found is not None
        of = published()[found[1]]
        stated = [of[key] for key in ("recall_at_1", "recall_at_1_in_abstract") if key in of]
        assert [float(number) for number in re.findall(r"\d+\.\d", figure)] == stated


def test_two_recipes_of_one_row_of_a_table_state_the_same_figures() -> None:
    assert published()["cub_ms_released"] == published()["w19_cub_512"]
