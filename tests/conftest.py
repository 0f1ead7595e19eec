"""Shared test setup: every jaxtyping annotation in `dml` is checked while the tests run."""

import os

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

from jaxtyping import install_import_hook

install_import_hook("dml", "beartype.beartype")
