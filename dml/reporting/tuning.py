"""What a study's page shows of Optuna's own record: the history of the best value, and what matters."""

import warnings
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from markupsafe import Markup

from dml.errors import Note, UserError
from dml.reporting.content import Panel
from dml.reporting.figures import BLUE, GREY, bars_svg, curves_svg
from dml.runs.folder import STUDY_FILE, STUDY_NAME


def tuning_panels(folder: Path) -> Iterator[Panel]:
    """Best value so far by trial, and the importance of each parameter (PED-ANOVA; Watanabe et al., IJCAI 2023).

    The folder holds the database of `dml.tune`. Without Optuna a note says so.

    Raises:
        UserError: the database cannot be read.
    """
    try:
        import optuna
    except ImportError:
        message = f'{folder / STUDY_FILE} is not shown without Optuna: pip install "dml[tune]".'
        warnings.warn(Note(message), stacklevel=2)
        return
    try:
        study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{folder / STUDY_FILE}")
    except Exception as error:  # of SQLAlchemy, SQLite or Optuna
        raise UserError(f"{folder / STUDY_FILE} cannot be read ({str(error).splitlines()[0]}).") from None
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not done:
        return
    better = max if study.direction.name == "MAXIMIZE" else min
    numbers, values = [trial.number for trial in done], [float(trial.value or 0.0) for trial in done]
    best = list(accumulate(values, better))
    curves = [("trial", GREY, numbers, values), ("best so far", BLUE, numbers, best)]
    yield Panel("Best validation so far", Markup(curves_svg(curves, "trial", marks=True)))
    if len(done) > 3 and len(set(values)) > 1:
        importance = optuna.importance.get_param_importances(study)
        yield Panel("Importance of each parameter", Markup(bars_svg(importance, "share of importance")))
