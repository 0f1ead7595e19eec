"""Loggers that need more than their constructor: a file to go on with, an account, or an optional package."""

import csv
import os
from collections.abc import Sequence
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from dml.errors import UserError

METRICS = "metrics.csv"


class AppendingWriter(ExperimentWriter):
    """Lightning's writer, which would delete the file that it finds, made to go on with it."""

    def _check_log_dir_exists(self) -> None:
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="") as stream:
                self.metrics_keys = next(csv.reader(stream), [])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        rewrite(Path(self.metrics_file_path), read_rows(Path(self.metrics_file_path)), fieldnames)


class CsvLogger(CSVLogger):
    """`metrics.csv` in the run's folder, every row on disk as soon as it is logged.

    Args:
        save_dir: the run's folder.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = AppendingWriter(self.log_dir)
        return self._experiment


def read_rows(file: Path) -> list[dict[str, str]]:
    """All rows of a CSV file."""
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def rewrite(file: Path, rows: list[dict[str, str]], columns: Sequence[str]) -> None:
    """Replace a CSV file, which at every moment is the old or the new one."""
    unfinished = file.with_name(f"{file.name}.part")
    with unfinished.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(unfinished, file)


def keep_metrics(folder: Path, before: int) -> None:
    """Leave in `metrics.csv` the rows of steps before this one: what a run that goes on there will not log again.

    Step 0 leaves none. A row that was cut short when the run was killed goes too.
    """
    file = folder / METRICS
    if not file.is_file():
        return
    whole = [row for row in read_rows(file) if None not in row.values()]
    rows = [row for row in whole if row["step"].isdecimal() and int(row["step"]) < before]
    if rows:
        rewrite(file, rows, list(rows[0]))
    else:
        file.unlink()


def has_wandb_account() -> bool:
    """Whether Weights & Biases would find a key: in the environment, or in the netrc file of `wandb login`."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = str(urlsplit(wandb.setup().settings.base_url).hostname)
    for file in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        if file and (path := Path(file).expanduser()).is_file():
            try:
                return netrc(path).authenticators(host) is not None
            except NetrcParseError:
                return False
    return False


def wandb_logger(
    project: str,
    save_dir: str,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    offline: bool | None = None,
    log_model: bool = False,
) -> WandbLogger:
    """A Weights & Biases run of its own, offline where no account is configured.

    Args:
        project, name, group, tags: as W&B shows them.
        save_dir: folder that receives `wandb/`.
        offline: None follows WANDB_MODE (`disabled` writes nothing), and without it goes online exactly where an
            account is configured.
        log_model: upload checkpoints; only online.

    Raises:
        UserError: checkpoints cannot be uploaded from an offline run.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") if offline is None else None
    if offline is None:
        offline = mode in {"offline", "dryrun", "disabled"} if mode else not has_wandb_account()
    if offline and log_model:
        raise UserError("logger.wandb.log_model=true needs an online run: `wandb login` first.")
    wandb.finish()  # a second run in one process would otherwise continue the first
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        project=project,
        save_dir=save_dir,
        name=name,
        group=group,
        tags=list(tags),
        log_model=log_model,
        # Lightning's own `offline` sets a variable, which wandb, once set up, no longer reads.
        mode=mode or ("offline" if offline else None),
    )


def tensorboard_logger(save_dir: str) -> TensorBoardLogger:
    """TensorBoard's event files in `save_dir`/tensorboard.

    Raises:
        UserError: the optional package is not installed.
    """
    if find_spec("tensorboard") is None:
        raise UserError("logger=tensorboard needs an optional package: pip install 'dml[tensorboard]'.")
    return TensorBoardLogger(save_dir, name="tensorboard", version="")
