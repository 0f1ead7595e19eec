"""Shared test setup: every jaxtyping annotation in `dml` is checked while the tests run."""

import os

# Before torch is imported: the threads of several processes would wait for one another's cores, spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from jaxtyping import install_import_hook
from omegaconf import DictConfig

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

install_import_hook("dml", "type_checks.check")

from dml.config.cli import CONF  # noqa: E402


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real images and weights; tests that need it skip where it is not."""
    folder = Path(os.environ.get("DML_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the real images and weights in {folder.name}/ beside the repository")
    return folder


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes a configuration as the command line would, its run's folder under the test's own."""

    def composed(*overrides: str, name: str = "train", folder: str = "run") -> DictConfig:
        with initialize_config_dir(CONF, version_base="1.3"):
            return hydra_compose(name, overrides=[f"run_dir={tmp_path / folder}", *overrides])

    return composed
