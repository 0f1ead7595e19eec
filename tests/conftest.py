"""Shared test setup: every jaxtyping annotation in `dml` is checked while the tests run."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

install_import_hook("dml", "beartype.beartype")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real images and weights; tests that need it skip where it is not."""
    folder = Path(os.environ.get("DML_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the real images and weights in {folder.name}/ beside the repository")
    return folder
