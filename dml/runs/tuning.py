"""A study of `dml.tune`: Optuna draws the trials, each is a run of `dml.train`, and the best one is tested."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, Trial, TrialState

from dml.config.build import build
from dml.config.check import leaves
from dml.config.tuning import space_of, trial_overrides
from dml.errors import UserError
from dml.runs.folder import STUDY_FILE, STUDY_NAME
from dml.runs.loggers import METRICS, whole_rows
from dml.runs.settings import WITHOUT_INFLUENCE
from dml.runs.sweep import leave_when_stopped, print_trials, write_trials
from dml.runs.trial import run_apart
from dml.runs.tuning_results import STATES, rows_of, shortened, test_best

SETTINGS = "settings"
DOOMED = 3  # trials: if the first ones all fail, so will the others
Command = Callable[..., None]


def run(config: DictConfig) -> None:
    """Search, then test the best trial; what is done is written however the search ends.

    Raises:
        UserError: the folder holds another study; no trial was completed; the best one cannot be tested.
    """
    out, metric = Path(config.run_dir), str(config.callbacks.best_checkpoint.monitor)
    leave_when_stopped()
    os.environ.setdefault("WANDB_RUN_GROUP", "/".join(out.resolve().parts[-2:]))
    study = open_study(config, out)
    try:
        search(study, config, out)
    except (KeyboardInterrupt, SystemExit):
        print(f"Stopped. The same command with hydra.run.dir={out} goes on.")
        raise
    finally:
        rows = rows_of(study, metric)
        if rows:
            write_trials(rows, out / "trials.csv")
            print_trials(shortened(rows), f"{len(rows)} trials, best {metric} first")
    test_best(study, metric, out)
    print(out)


def open_study(config: DictConfig, out: Path) -> optuna.Study:
    """The study in a folder, a new one if there is none.

    Raises:
        UserError: the folder's study has other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=STUDY_NAME,
        storage=f"sqlite:///{out / STUDY_FILE}",
        direction="minimize" if config.callbacks.best_checkpoint.mode == "min" else "maximize",
        pruner=build(config.tune.pruner) if config.tune.pruner else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    now = {
        key: value
        for key, value in leaves(OmegaConf.to_container(config))
        # More trials may be asked for by the next command.
        if key == "model.weights" or not (key == "tune.trials" or WITHOUT_INFLUENCE.fullmatch(key))
    }
    was = study.user_attrs.get(SETTINGS, now)
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            raise UserError(
                f"hydra.run.dir={out} holds a study with {key}={was.get(key)}, and now it is {now.get(key)}: give the "
                "command of before, or another folder."
            )
    study.set_user_attr(SETTINGS, now)
    return study


def search(study: optuna.Study, config: DictConfig, out: Path, train: Command = run_apart) -> None:
    """Run trials until there are `tune.trials`; one that an earlier command left unfinished is resumed first.

    Whatever ended a command, the study goes on with the trials that it would have had: each one is drawn with a seed
    of its own number, from the trials before it. `train` runs one in its folder, as `run_apart` does.

    Raises:
        UserError: the first trials all failed.
    """
    space, metric = space_of(config), str(config.callbacks.best_checkpoint.monitor)
    unfinished = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    while unfinished or len(study.get_trials(deepcopy=False)) < config.tune.trials:
        number = unfinished[0].number if unfinished else len(study.get_trials(deepcopy=False))
        study.sampler = sampler(config.tune.seed, number, config.tune.startup_trials)
        trial = Trial(study, unfinished.pop(0)._trial_id) if unfinished else study.ask()
        for key, distribution in space.items():
            trial._suggest(key, distribution)  # as `ask` does; what is drawn already stays
        done = run_trial(trial, metric, out / "trials" / str(number), train)
        value = "" if done.value is None else f", {metric} {done.value:.4f}"
        print(
            f"Trial {number} ({number + 1} of {config.tune.trials}): {STATES[done.state]}{value}", flush=True
        )
        first = study.get_trials(deepcopy=False)
        if len(first) == DOOMED and all(one.state == TrialState.FAIL for one in first):
            raise UserError(
                f"The first {DOOMED} trials failed, the last of them by: {done.user_attrs['error']}"
            )


def sampler(seed: int, number: int, startup_trials: int) -> optuna.samplers.TPESampler:
    """What draws trial `number`; Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011."""
    [of_trial] = np.random.SeedSequence([seed, number]).generate_state(1)
    return optuna.samplers.TPESampler(n_startup_trials=startup_trials, seed=int(of_trial))


def run_trial(trial: Trial, metric: str, folder: Path, train: Command) -> FrozenTrial:
    """Run or resume a trial, until it is done, failed or pruned, and tell the study."""
    study, validations = trial.study, Validations(trial, folder / METRICS, metric)
    if not validations.pruned:
        train("dml.train", [*trial_overrides(trial.params), "test=false", "resume=auto"], folder, validations)
    figures = json.loads((folder / "metrics.json").read_text())
    if validations.pruned:
        return study.tell(trial, state=TrialState.PRUNED)
    if "error" in figures:
        trial.set_user_attr("error", figures["error"])
        return study.tell(trial, state=TrialState.FAIL)
    stage, _, name = metric.rpartition("/")
    return study.tell(trial, figures[f"{stage}/best_{name}"])


class Validations:
    """Reports a trial's validations in their order; called, it looks for new ones and says why the trial is to end.

    What is decided does not depend on when it is called, since each validation is judged by itself.

    Args:
        trial: that runs, or is about to.
        file: the run's `metrics.csv`.
        metric: its column.

    Attributes:
        pruned: whether the trial is to end.
    """

    def __init__(self, trial: Trial, file: Path, metric: str) -> None:
        self.trial, self.file, self.metric = trial, file, metric
        self.reported = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        self.pruned = trial.should_prune()

    def __call__(self) -> str | None:
        rows: list[dict[str, str]] = []
        with suppress(FileNotFoundError):
            rows, _ = whole_rows(self.file)
        for step, value in [(int(row["step"]), row[self.metric]) for row in rows if row.get(self.metric)]:
            if step not in self.reported and not self.pruned:
                self.trial.report(float(value), step)
                self.reported.add(step)
                self.pruned = self.trial.should_prune()
        return f"pruned at step {max(self.reported)}" if self.pruned else None
