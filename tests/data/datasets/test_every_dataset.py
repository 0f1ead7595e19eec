"""What holds for every dataset of conf/dataset; a new one is found by itself."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dml.config.cli import CONF
from dml.data.download import Source
from dml.errors import UserError
from dml.prepare import datasets, prepare, split_config


def test_they_are_found() -> None:
    assert {"cub", "cars", "sop", "inshop", "digits", "folder", "manifest"} <= set(datasets())


@pytest.mark.parametrize("name", datasets())
def test_the_yaml_names_its_dataset_and_a_loader(name: str, tmp_path: Path) -> None:
    assert OmegaConf.load(Path(CONF, "dataset", f"{name}.yaml")).name == name
    load = instantiate(split_config(name, tmp_path / "nowhere"))
    if "root" in load.keywords:
        with pytest.raises(UserError, match="nowhere"):
            load()


@pytest.mark.parametrize("name", [name for name in datasets() if "download" in split_config(name, Path())])
def test_what_cannot_be_fetched_ends_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(source: Source, _: Path) -> None:
        raise UserError(f"Cannot fetch {source.url}.")

    monkeypatch.setattr("dml.data.download.fetch", no_network)
    with pytest.raises(UserError, match=r"^Cannot fetch .*; "):
        prepare(name, tmp_path)
