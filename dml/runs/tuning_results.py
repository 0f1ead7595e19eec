"""What a study of `dml.tune` leaves: its table, and the test of the best trial."""

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from dml.config.tuning import trial_overrides
from dml.errors import UserError
from dml.runs.trial import run_apart

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "fail",
    TrialState.RUNNING: "unfinished",
}


def rows_of(study: optuna.Study, metric: str) -> list[dict[str, Any]]:
    """A row a trial: completed ones first, then pruned, failed and unfinished ones; the best of each kind first."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1

    def place(trial: FrozenTrial) -> tuple[int, float, int]:
        return list(STATES).index(trial.state), sign * (trial.value or 0.0), trial.number

    rows = []
    for trial in sorted(study.trials, key=place):
        row = {"trial": trial.number, **trial.params, "state": STATES[trial.state]}
        value = {} if trial.value is None else {metric: trial.value}
        rows.append(row | value | trial.user_attrs)  # its error
    return rows


def shortened(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with four digits of each number, and of each key its last part where no other ends in it."""
    last = Counter(key.rpartition(".")[2] for key in {key for row in rows for key in row})
    names = {key: part if last[part := key.rpartition(".")[2]] == 1 else key for row in rows for key in row}
    return [{names[k]: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def test_best(study: optuna.Study, metric: str, out: Path) -> None:
    """Test the best trial if it was not yet, in its own folder, and write `best.yaml`.

    Raises:
        UserError: no trial was completed, or the test failed.
    """
    if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        raise UserError(f"No trial was completed; {out / 'trials.csv'} says why.")
    best = study.best_trial
    folder, overrides = out / "trials" / str(best.number), trial_overrides(best.params)
    if not (folder / "queries.csv").is_file():
        run_apart("dml.train", [*overrides, "resume=auto"], folder)
    figures = json.loads((folder / "metrics.json").read_text())
    if "error" in figures:
        raise UserError(f"The best trial, {folder}, cannot be tested: {figures['error']}")
    command = shlex.join(["python", "-m", "dml.train", *overrides])
    content = {"trial": best.number, metric: best.value, "parameters": best.params, "command": command}
    OmegaConf.save(content | {k: v for k, v in figures.items() if k.startswith("test/")}, out / "best.yaml")
    print(
        f"The best is trial {best.number}: test/recall_at_1 {figures['test/recall_at_1']:.4f}. To repeat it:"
    )
    print(command)
