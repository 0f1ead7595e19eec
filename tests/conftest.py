"""Shared test setup: every jaxtyping annotation in `dml` is checked while the tests run."""

import os

# Before torch is imported: the threads of several processes would wait for one another's cores, spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
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


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of a short run on the digits by its seed; several tests read it, and none alters it.

    It was moved after the training: nothing is where its checkpoints say.
    """

    @cache
    def folder(seed: int) -> Path:
        from dml.runs.training import train

        run = tmp_path_factory.mktemp("digits") / "run"
        short = ("debug=fast", "trainer=cpu", "model.embedding_dim=8", "callbacks.retrieval_grid=null")
        with initialize_config_dir(CONF, version_base="1.3"):
            config = hydra_compose("train", [*short, f"seed={seed}", f"run_dir={run}"])
        train(config)
        return run.rename(run.with_name("moved"))

    return folder


class Done(NamedTuple):
    """What a command did: its exit status, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """Types a command in this process, which spares the seconds that a process takes to import torch."""
    for variable in ("DML_STARTED_BY", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(variable, "1")
        monkeypatch.delenv(variable)  # what the command sets is undone after the test
    handlers, root = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}, logging.getLogger()
    loggers, level = list(root.handlers), root.level

    def run(module: str, *arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", [module, *map(str, arguments)])
        code: object = 0
        try:
            import_module(module).main()
        except SystemExit as ended:
            code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        return Done(1 if isinstance(code, str) else int(str(code or 0)), *capsys.readouterr())

    yield run
    HydraConfig.instance().cfg = None
    root.handlers, root.level = loggers, level
    for number, handler in handlers.items():
        signal.signal(number, handler)
