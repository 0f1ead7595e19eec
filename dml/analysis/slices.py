"""Cells of a study that differ in one or two settings alone."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from dml.analysis.study import Cell, Part, Settings
from dml.analysis.trials import as_number


class Slice(NamedTuple):
    """Cells that agree in all settings but some.

    Attributes:
        fixed: the settings in which they agree.
        cells: by the values of the others, the best cell first.
    """

    fixed: dict[str, str]
    cells: dict[Settings, Cell]


def slices(part: Part, keys: Sequence[str]) -> list[Slice]:
    """The cells that differ in `keys` alone: most cells first, of equally many those with the better best cell."""
    free = [part.keys.index(key) for key in keys]
    rest = [n for n in range(len(part.keys)) if n not in free]
    found: dict[Settings, dict[Settings, Cell]] = defaultdict(dict)
    for cell in part.cells:
        if part.metric in cell.estimates:
            fixed, own = (tuple(cell.settings[n] for n in places) for places in (rest, free))
            found[fixed][own] = cell
    names = [part.keys[n] for n in rest]
    return sorted(
        (Slice(dict(zip(names, fixed, strict=True)), cells) for fixed, cells in found.items()),
        key=lambda one: -len(one.cells),
    )


def is_numeric(part: Part, key: str) -> bool:
    """Whether at least two of a setting's values are numbers, and the others are null or only left out."""
    values = {cell.settings[part.keys.index(key)] for cell in part.cells} - {"–", "null"}
    return len(values) > 1 and all(as_number(value) is not None for value in values)
