"""Keys that nothing reads: Hydra refuses them on the command line, but not in an experiment's yaml."""

import re
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dml.config.cli import CONF
from dml.errors import UserError


def check_keys(config: DictConfig) -> None:
    """Raise UserError that names a key, at the top, in `dataset` or in `lr_factors`, that nothing reads.

    Read are the keys that the package's own yamls have, and those that another value of the configuration refers to.
    What is inside other groups goes to constructors, which refuse what they do not know.
    """
    text = OmegaConf.to_yaml(config)
    primary = OmegaConf.load(Path(CONF) / "train.yaml")
    groups = (_names(entry) for entry in primary.defaults if isinstance(entry, DictConfig))
    datasets = (_names(OmegaConf.load(file)) for file in (Path(CONF) / "dataset").glob("*.yaml"))
    for prefix, keys, known in (
        ("", config, _names(primary).union(*groups)),
        ("dataset.", config.dataset, set().union(*datasets)),
        ("lr_factors.", config.lr_factors, _names(primary.lr_factors)),
    ):
        for key in sorted(map(str, keys)):
            if key not in known and not re.search(rf"\$\{{{re.escape(prefix + key)}[}}.\[]", text):
                raise UserError(
                    f"There is no key {prefix}{key}: nothing reads it, so correct it or leave it out."
                )


def _names(keys: Iterable[object]) -> set[str]:
    return {str(key) for key in keys}
