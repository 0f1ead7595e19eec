"""Every model's yaml builds the embedder that it describes."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from dml.models import Embedder

CONF = Path(__file__).resolve().parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        channels = "+dataset.channels=1" if name == "convnet" else "+dataset.channels=3"
        return compose(overrides=[f"+model={name}", channels, "model.weights=null", *overrides])


@pytest.mark.parametrize("name", NAMES)
def test_builds_without_weights(name: str) -> None:
    yaml = (CONF / "model" / f"{name}.yaml").read_text()
    if "timm" in yaml:
        pytest.importorskip("timm", reason="needs timm")
    overrides = ["model.name=resnet18"] if "name: ???" in yaml else []
    cfg = composed(name, *overrides, "model.embedding_dim=7", "model.pool=sum", "model.freeze_batchnorm=true")
    embedder = instantiate(cfg.model)
    assert isinstance(embedder, Embedder)
    assert embedder.freeze_batchnorm
    channels = 1 if name == "convnet" else 3
    with torch.no_grad():
        assert embedder.eval()(torch.rand(1, channels, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize("name", NAMES)
def test_opens_with_what_it_is(name: str) -> None:
    assert (CONF / "model" / f"{name}.yaml").read_text().startswith("# ")


def test_file_and_null_weights_build_the_same_architecture(tmp_path: Path) -> None:
    fresh = instantiate(composed("convnet").model)
    torch.save(fresh.backbone.state_dict(), tmp_path / "w.pth")
    loaded = instantiate(composed("convnet", f"model.weights={tmp_path / 'w.pth'}").model)
    fresh.load_state_dict(loaded.state_dict())
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(fresh.eval()(images), loaded.eval()(images))
