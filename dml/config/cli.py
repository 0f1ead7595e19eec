"""Shared by all commands: what is checked first, and how a mistake is reported."""

import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import hydra
from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from dml.config.refusal import CONF, REFUSED, explain
from dml.config.schema import GROUPS
from dml.errors import Note, UserError, printed_notes
from dml.runs.failures import end_with_parent, end_workers, machine_failures
from dml.runs.folder import new_folder

# A new folder for each run, the same on all its processes and at every call.
OmegaConf.register_new_resolver("new_folder", new_folder, use_cache=True, replace=True)

# A full disk must not fill the terminal with tracebacks of log lines.
logging.raiseExceptions = False

# Of Lightning and torch; a user cannot act on them.
for message in (
    "Grad strides do not match bucket view strides",  # of a convolution over one channel, whose stride says nothing
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # its own use of torch
    # It counts steps in an epoch, but logs by steps in the run, so nothing is lost.
    r"The number of training batches \(\d+\) is smaller than the logging",
    r"Found \d+ module\(s\) in eval mode",  # frozen batch norm, on purpose
    "Checkpoint directory .* exists and is not empty",  # a resumed run's; `dml.runs.guard` refuses others
):
    warnings.filterwarnings("ignore", message=message)


def command(name: str, task: str) -> Callable[[], None]:
    """The command line of `conf/<name>.yaml`, which runs a function of the configuration.

    A person's mistake is one sentence and exit status 1, without a traceback. What Hydra cannot compose is refused
    before anything is written.

    Args:
        name: of the command, `dml.<name>`.
        task: "module:function", imported only for a command line that is right: it imports torch.
    """

    def in_sentences(config: DictConfig) -> Any:
        end_with_parent()
        try:
            with one_sentence():
                return resolve_name(task)(config)
        finally:
            end_workers()

    in_sentences.__module__ = f"dml.{name}"  # Hydra names the job after it
    main = hydra.main(version_base="1.3", config_path=CONF, config_name=name)(in_sentences)

    def run() -> None:
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises its errors instead of printing them
        with one_sentence(name):
            main()

    return run


@contextmanager
def one_sentence(name: str = "") -> Iterator[None]:
    """Inside, a person's mistake ends the process with one sentence; so does what Hydra refuses of command `name`."""
    try:
        with printed_notes(), machine_failures():
            yield
    except UserError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning leaves with 1
            sys.exit(128 + signal.SIGINT)
        raise
    except REFUSED as error:
        sys.exit(f"Error: {explain(error, name, sys.argv[1:])}")
    except ValueError as error:
        null = [word for word in sys.argv if re.fullmatch(r"[\w/@.]+=null", word)]
        if not (str(error).startswith("Config group override must be") and null):
            raise
        group = null[0].partition("=")[0]
        options = ", ".join(sorted(file.stem for file in Path(CONF, group).glob("*.yaml")))
        without = "" if group in GROUPS else f"; ~{group} leaves it out"
        sys.exit(f"Error: {null[0]} must be one of {options}{without}.")


class CheckFirst(Callback):
    """Checks a command line before its run's or sweep's folder is created.

    Args:
        check: dotted name of a function of the configuration that raises UserError.
    """

    def __init__(self, check: str) -> None:
        self.check = check

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with one_sentence():
            self._check(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a sweep of which no trial passes; a value that only some trials have is a failed trial's row."""
        if "BasicSweeper" not in config.hydra.sweeper._target_:
            return  # another sweeper chooses its trials as it goes
        name, refusals = kwargs["config_name"], []
        with one_sentence(name):
            trials, swept = trials_of(config)
            seen: set[str] = set()
            for overrides in trials:
                if not seen.issuperset(overrides):  # each choice is composed once
                    compose(name, overrides)
                    seen.update(overrides)
            for number, overrides in enumerate(trials):
                trial = compose(name, overrides, return_hydra_config=True)
                with read_write(trial.hydra):
                    trial.hydra.job.num, trial.hydra.job.id = number, str(number)
                    trial.hydra.mode = config.hydra.mode
                try:
                    return self._check(trial)
                except UserError as error:
                    refusals.append(str(error))
            # What all trials share, rather than a choice of one of them.
            raise UserError(min(refusals, key=lambda said: any(key in said for key in swept)))

    def _check(self, config: DictConfig) -> None:
        config = config.copy()
        with read_write(config.hydra):
            config.hydra.runtime.output_dir = "."  # the folder is not yet there
        HydraConfig.instance().set_config(config)
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        logging.disable(logging.INFO)  # notes and what Lightning logs come again, from the run itself
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Note)
            resolve_name(self.check)(own)
        logging.disable(logging.NOTSET)


def trials_of(config: DictConfig) -> tuple[list[list[str]], list[str]]:
    """The overrides of each trial of Hydra's own sweeper, and the keys that differ between trials.

    Raises:
        UserError: a sweep without a list of values.
    """
    # As written: an interpolation such as ${hydra:job.num} has a value in a trial alone.
    written: Any = OmegaConf.to_container(config.hydra, resolve=False)
    params = [f"{key}={value}" for key, value in (written["sweeper"].get("params") or {}).items()]
    typed = OverridesParser.create().parse_overrides([*params, *map(str, written["overrides"]["task"])])
    try:
        [trials] = BasicSweeper.split_arguments(typed, max_batch_size=None)
    except HydraException as error:
        raise UserError(f"{error}: give values, as in a,b or range(1,5).") from error
    return trials, [override.get_key_element() for override in typed if override.is_sweep_override()]
