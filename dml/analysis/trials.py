"""The trials of a study: what each one overrides, and what it measured."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.errors import UserError
from dml.runs.loggers import read_rows
from dml.runs.sweep import COLLAPSED, TEST, read_trials

# Overrides that change no figure, and the seed, which makes no cell of its own.
NO_SETTING = re.compile(
    r"(seed|resume|overwrite|report|test|embeddings|baselines|run_dir|.*\.root|data\.(num_workers|cache.*)"
    r"|(hydra|logger|published)\b.*)"
)


class Ground(NamedTuple):
    """What figures must share to stand in one column."""

    dataset: str
    protocol: str
    fingerprint: str


@dataclass(frozen=True)
class Trial:
    """A run of a study.

    Attributes:
        name: its path within the study.
        folder: that holds its files, unless the sweep's table alone is left.
        overrides: key → value, as typed.
        figures: of its `metrics.json`.
    """

    name: str
    folder: Path
    overrides: dict[str, str]
    figures: dict[str, Any]

    @property
    def values(self) -> dict[str, float]:
        """Metrics of the test, and the best validation."""
        return {
            name: float(value)
            for name, value in self.figures.items()
            if name.startswith((TEST, "val/best_")) and "queries_" not in name
        }

    @property
    def error(self) -> str:
        """What went wrong, in a line; empty where nothing did. A trial may have figures all the same."""
        found = str(self.figures.get("error", "")).strip() or ("" if self.values else "no figures")
        return found.partition("\n")[0]

    @property
    def collapsed(self) -> bool:
        return bool(self.figures.get(COLLAPSED))

    @property
    def seed(self) -> str:
        """Its seed; its name where none is known."""
        return str(self.figures.get("seed", self.overrides.get("seed", self.name)))

    @property
    def ground(self) -> Ground:
        dataset, protocol, fingerprint = (str(self.figures.get(name, "unknown")) for name in Ground._fields)
        return Ground(dataset, protocol.partition(":")[0], fingerprint)

    @property
    def hours(self) -> float | None:
        """Wall-clock time by its files' times, of a resumed run since it was resumed; None if it was skipped later."""
        files = [self.folder / name for name in (".hydra/overrides.yaml", "metrics.json")]
        if not all(file.is_file() for file in files):
            return None
        started, ended = (file.stat().st_mtime for file in files)
        return (ended - started) / 3600 if ended > started else None

    @property
    def published(self) -> dict[str, Any]:
        """A paper's figures in percent, by the metric's name, and their `source`."""
        return dict(self._config.get("published") or {})

    def setting(self, key: str) -> str:
        """An override's value, or what the configuration has without it; "–" where it has no such key.

        Equal values are equal texts, see `canonical`.
        """
        if key in self.overrides:
            return canonical(self.overrides[key])
        try:
            value = self._choices.get(key) or OmegaConf.select(self._config, key, default="–")
        except OmegaConfBaseException:
            value = "–"
        return canonical("null" if value is None else str(value))

    @cached_property
    def _config(self) -> DictConfig:
        return self._yaml("config.yaml")

    @cached_property
    def _choices(self) -> dict[str, Any]:
        return OmegaConf.select(self._yaml("hydra.yaml"), "hydra.runtime.choices") or {}

    def _yaml(self, name: str) -> DictConfig:
        file = self.folder / ".hydra" / name
        return DictConfig(OmegaConf.load(file) if file.is_file() else {})


def canonical(value: str) -> str:
    """One text for equal values: 2.0 as 2, True as true, [1, 2] as [1,2]; other values as they are."""
    if (number := as_number(value)) is not None:
        return f"{number:.15g}"
    if value.startswith("["):
        return value.replace(", ", ",")
    return value.lower() if value.lower() in ("true", "false", "null") else value


def rounded(value: str) -> str:
    """A setting as people read it, a number with five digits."""
    number = as_number(value)
    return value if number is None else f"{number:.5g}"


def as_number(value: str) -> float | None:
    """The number that a value is; None where it is none."""
    try:
        return float(value)
    except ValueError:
        return None


def read_study(folders: Sequence[Path], without: Sequence[str]) -> list[Trial]:
    """All trials in the folders, however deep.

    Args:
        folders: of sweeps, of tuning studies or of runs.
        without: values of settings that vary, or `key=value` of one of them; trials that have one are left out.

    Raises:
        UserError: a folder holds no trial or a damaged file, or no setting has a value of `without`.
    """
    trials = [trial for folder in folders for trial in _trials(folder, len(folders) > 1)]
    keys, given = varied(trials), (text.rpartition("=") for text in without)
    left_out = {f"{key}{sign}{canonical(value)}" for key, sign, value in given}
    settings = [[(key, trial.setting(key)) for key in keys] for trial in trials]
    words = [{word for key, value in own for word in (value, f"{key}={value}")} for own in settings]
    if unknown := left_out.difference(*words):
        raise UserError(
            f"--without {min(unknown)}: no setting that varies ({', '.join(keys)}) has this value."
        )
    return [trial for trial, own in zip(trials, words, strict=True) if not left_out & own]


def _trials(folder: Path, several: bool) -> list[Trial]:
    """The trials of one folder; where the sweep's table alone is left, those of its rows."""
    table = folder / "sweep.csv"
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of a run or of a sweep (dml.train -m …).")
    try:
        rows = read_trials(folder) or (read_rows(table) if table.is_file() else [])
        found = [_trial(row, folder, several) for row in rows]
    except (ValueError, KeyError) as error:
        raise UserError(f"{folder} has a damaged metrics.json or sweep.csv ({error}).") from None
    if not found:
        raise UserError(f"{folder} holds no trials: give the folder of a run or of a sweep (dml.train -m …).")
    return found


def _trial(row: dict[str, Any], folder: Path, several: bool) -> Trial:
    row = {key: value for key, value in row.items() if value not in (None, "")}
    own, file = folder / row["trial"], folder / row["trial"] / "metrics.json"
    figures = {key: row[key] for key in (COLLAPSED, "error") if key in row}
    figures |= {key: float(value) for key, value in row.items() if key.startswith(TEST)}
    overrides = {key.lstrip("+~"): str(v) for key, v in row.items() if key not in {"trial", *figures}}
    name = str(own) if several else row["trial"]
    return Trial(name, own, overrides, json.loads(file.read_text()) if file.is_file() else figures)


def varied(trials: Sequence[Trial]) -> list[str]:
    """Settings that are not the same in all trials, in the order in which they were typed."""
    keys = dict.fromkeys(key for trial in trials for key in trial.overrides if not NO_SETTING.fullmatch(key))
    return [key for key in keys if len({trial.setting(key) for trial in trials}) > 1]
