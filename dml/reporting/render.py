"""From the files of a run to `report.html`: one page that needs no network, no server and no image files."""

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dml.errors import UserError, permitted
from dml.reporting.content import content
from dml.reporting.queries import queries_of
from dml.runs.failures import whole_file

DATA = "report.json"


def render(folder: Path) -> Path:
    """Write a run's `report.html` from its `report.json`, `metrics.json`, `queries.csv` and `metrics.csv`.

    Raises:
        UserError: one of the first three files is not there, or is not what it should be.
    """
    data = read_json(folder / DATA, {"images", "map", "histogram", "weights", "published", "config"})
    metrics = read_json(folder / "metrics.json", {"dataset", "fingerprint"})
    shown = content(folder, data, metrics, queries_of(folder))
    return write_page(folder / "report.html", "template.html", shown)


def write_page(file: Path, template: str, shown: Mapping[str, Any]) -> Path:
    """Write a page of this package's templates; returns it."""
    page = Environment(
        loader=PackageLoader("dml.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(template)
    with whole_file(file) as part:
        # Names of files may hold bytes that are no text.
        part.write_bytes(page.render(shown).encode("utf-8", "replace"))
    return file


def read_json(file: Path, keys: Set[str]) -> dict[str, Any]:
    """Content of a JSON file of a run, which has at least these keys.

    Raises:
        UserError: it is not there, or is damaged.
    """
    if not file.is_file():
        raise UserError(
            f"{file.parent} holds no {file.name}: python -m dml.evaluate ckpt_path=… evaluates the checkpoint again "
            "and writes all that a report needs, in a new folder."
        )
    with permitted(file):
        text = file.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): evaluate the checkpoint again.") from None
    if not isinstance(found, dict) or not keys <= found.keys():
        raise UserError(f"{file} was not written by this version of dml: evaluate the checkpoint again.")
    return found
