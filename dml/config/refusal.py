"""One sentence for a command line that Hydra cannot compose, with what was probably meant."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf

# Folder of the configurations: beside the package in the repository, inside it when installed.
_PACKAGE = Path(__file__).resolve().parents[1]
CONF = str(next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir()))

REFUSED = (ConfigCompositionException, OverrideParseException)


def explain(error: HydraException, name: str, arguments: Sequence[str]) -> str:
    """What is wrong with a command line, and the key, option or spelling that comes closest.

    Args:
        error: one of `REFUSED`.
        name: of the command's own, such as "train".
        arguments: the command line.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        hint = closest(option, dict(_options(Path(CONF, group))))
        meant = _meant(hint and f"{group}={hint}")
        return f"There is no {group}={option}{meant} There are {', '.join(error.options)}."
    if isinstance(error, OverrideParseException):
        return _unparsed(error.override, name)
    key = re.match(r"Could not override '(.+?)'", str(error))
    if key is None:
        return " ".join(str(error).split())
    keys = _keys(name, [word for word in arguments if "=" in word and key[1] not in word])
    return f"There is no key {key[1]}{_meant(closest(key[1], keys))}"


def closest(word: str, known: Mapping[str, str]) -> str | None:
    """The value of the name that a word resembles most; case, `_` and `.` do not count."""
    plain = {_letters(name): value for name, value in known.items()}
    found = get_close_matches(_letters(word), plain, n=1)
    return plain[found[0]] if found else None


def _letters(word: str) -> str:
    return re.sub(r"[\W_]", "", word.lower())


def _meant(guess: str | None) -> str:
    return f": did you mean {guess}?" if guess else "."


def _options(group: Path) -> Iterator[tuple[str, str]]:
    """Each option of a group by its own name and by that of its target, such as MultiSimilarityLoss."""
    # Of several the shortest name wins.
    for file in sorted(group.glob("*.yaml"), key=lambda file: -len(file.stem)):
        yield OmegaConf.select(OmegaConf.load(file), "_target_", default="").rpartition(".")[2], file.stem
        yield file.stem, file.stem


def _keys(name: str, overrides: list[str]) -> dict[str, str]:
    """Each key of the configuration by its last part, of which the shortest key has it, and by itself."""
    running = GlobalHydra.instance().is_initialized()  # in a sweep
    with nullcontext() if running else initialize_config_dir(CONF, version_base="1.3"):
        try:
            config = compose(name, overrides)
        except REFUSED:
            config = compose(name)
    keys = sorted(_dotted(OmegaConf.to_container(config)), key=len, reverse=True)
    return {key.rpartition(".")[2]: key for key in keys} | {key: key for key in keys}


def _dotted(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            where = f"{path}.{key}" if path else str(key)
            yield where
            yield from _dotted(value, where)


def _unparsed(word: str, name: str) -> str:
    """What to write in place of a word that is no key=value."""
    key, equals, value = word.partition("=")
    if not equals and name == "evaluate":
        return f"{word} is no key=value: did you mean ckpt_path={word}?"
    if not equals:
        return f"{word} is no key=value, such as loss=ms."
    if "…" in word:
        return f"{word} cannot be read: put your own in place of the dots."
    return f"""{word} cannot be read: quote a value with special characters twice, as in "{key}='{value}'"."""
