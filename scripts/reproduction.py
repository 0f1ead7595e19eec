"""Write docs/reproduction.md: what the papers report, and what was reproduced here.

    python scripts/reproduction.py               from conf/experiment/, conf/study/ and docs/reproduction.json
    python scripts/reproduction.py RUN RUN …     adds the figures of runs to docs/reproduction.json first

RUN is the folder of a run of `python -m dml.train experiment=…`. A published figure stands in the `published` of its
experiment's yaml and nowhere else. A run is named by its experiment, its other overrides and its seed; a second one
of that name replaces the first.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dml.config.cli import CONF
from dml.errors import UserError
from dml.runs.settings import WITHOUT_INFLUENCE

DOCS = Path(__file__).resolve().parents[1] / "docs"
RECALL, DATASET = "recall_at_", "override /dataset"
NAMES = {
    "cub": "CUB-200-2011",
    "cars": "Cars196",
    "sop": "Stanford Online Products",
    "inshop": "In-Shop Clothes",
}
# Public listings of the loss without a recipe: who trained them and on which images is not known, so none can be run.
FACES = (
    ("CPLFW", "verification accuracy", 73.6),
    ("CALFW", "verification accuracy", 85.4),
    ("IJB-C", "TAR at FAR 0.01", 57.8),
)
Run = Mapping[str, Any]


def read_run(folder: Path) -> Run:
    """What the table needs of a run's folder.

    Raises:
        UserError: the folder holds no finished run of an experiment.
    """
    metrics, hydra = folder / "metrics.json", folder / ".hydra" / "hydra.yaml"
    if not (metrics.is_file() and hydra.is_file()):
        raise UserError(
            f"{folder} holds no metrics.json with its .hydra/: give the folder of a finished run."
        )
    figures, choices = json.loads(metrics.read_text()), OmegaConf.load(hydra).hydra
    experiment = choices.runtime.choices.get("experiment")
    if experiment is None or "test/recall_at_1" not in figures:
        raise UserError(f"{folder} is no finished run of an experiment: give one of experiment=….")
    changed = [
        word
        for word in choices.overrides.task
        if not re.match(r"(experiment|seed)=", word)
        and not WITHOUT_INFLUENCE.fullmatch(word.partition("=")[0])
    ]
    names = [name for name in figures if name.startswith(f"test/{RECALL}")]
    return {
        "experiment": experiment,
        "changed": sorted(changed),
        "seed": figures["seed"],
        "fingerprint": figures["fingerprint"],
        **{name: figures[name] for name in names},
        "interval": figures["intervals"]["test/recall_at_1"],
    }


def merged(runs: Sequence[Run], new: Sequence[Run]) -> list[Run]:
    """All runs in order, of two with one name the new one."""
    named = {(run["experiment"], tuple(run["changed"]), run["seed"]): run for run in (*runs, *new)}
    return [named[name] for name in sorted(named)]


def experiments() -> dict[str, dict[str, Any]]:
    """The yaml of each experiment that names what a paper reports."""
    files = sorted(Path(CONF, "experiment").glob("*.yaml"))
    yamls: dict[str, Any] = {file.stem: OmegaConf.to_container(OmegaConf.load(file)) for file in files}
    return {name: yaml for name, yaml in yamls.items() if "published" in yaml}


def published(of: Mapping[str, Any]) -> str:
    """Recall@1 in percent, with what goes with it."""
    if f"{RECALL}1" not in of:
        return "not at hand"
    spread = f" ± {of[f'{RECALL}1_sd']}" if f"{RECALL}1_sd" in of else ""
    abstract = f" (abstract: {of[f'{RECALL}1_in_abstract']})" if f"{RECALL}1_in_abstract" in of else ""
    return f"{of[f'{RECALL}1']}{spread}{abstract}"


def other_ks(of: Mapping[str, Any]) -> str:
    """Recall at the other K in percent, as `@2 77.0, @4 86.3`."""
    return ", ".join(
        f"@{key.removeprefix(RECALL)} {of[key]}"
        for key in of
        if key.removeprefix(RECALL).isdecimal() and key != f"{RECALL}1"
    )


def here(run: Run, of: Mapping[str, Any]) -> str:
    """A run's Recall@1 in percent, its difference from the published figure and its interval."""
    ours = 100 * run["test/recall_at_1"]
    delta = f", Δ {ours - of[f'{RECALL}1']:+.2f}" if f"{RECALL}1" in of else ""
    low, high = (100 * bound for bound in run["interval"])
    changed = f", with {' '.join(run['changed'])}" if run["changed"] else ""
    return f"{ours:.2f}{delta}, 95% [{low:.1f}, {high:.1f}], seed {run['seed']}{changed}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def recipes(runs: Sequence[Run]) -> str:
    """A row an experiment, by source."""
    rows = []
    for name, yaml in experiments().items():
        of, [data] = yaml["published"], [entry[DATASET] for entry in yaml["defaults"] if DATASET in entry]
        found = [here(run, of) for run in runs if run["experiment"] == name]
        rows.append(
            [
                of["source"],
                NAMES.get(data, data),
                str(yaml["model"]["embedding_dim"]),
                published(of),
                other_ks(of),
                "<br>".join(found) or "not run: needs the images",
                f"`experiment={name}`",
            ]
        )
    header = ("source", "images", "dimensions", "Recall@1", "other K", "here", "recipe")
    return table(header, sorted(rows))


def studies() -> str:
    """A row a study of Wang et al., of which no figure is at hand."""
    names = sorted(file.stem for file in Path(CONF, "study").glob("*19_*.yaml"))
    asked = {name: " × ".join(f"`{key}`" for key in _params(name) if key != "seed") for name in names}
    return table(
        ("study", "what it sweeps", "published"), [[f"`study={n}`", asked[n], "not at hand"] for n in names]
    )


def _params(name: str) -> dict[str, str]:
    params = OmegaConf.load(Path(CONF, "study", f"{name}.yaml")).hydra.sweeper.params
    return {str(key): str(value) for key, value in params.items()}


def page(runs: Sequence[Run]) -> str:
    """The whole document."""
    faces = table(
        ("benchmark", "figure", "published", "here"),
        [
            [name, figure, str(value), "not run: the training set is not known"]
            for name, figure, value in FACES
        ],
    )
    return f"""# What was reproduced

<!-- Made by `python scripts/reproduction.py`; a test compares. Change the yaml of an experiment instead. -->

Figures are percent. A published figure stands in the `published` of its recipe in `conf/experiment/`. "Not at hand"
means that its source could not be read here. A row is run by `python -m dml.train experiment=… dataset.root=…`, and
`python scripts/reproduction.py RUN…` enters the run here. [Datasets](datasets.md) says how to get the images.

## Recipes of the papers

{recipes(runs)}
Rows of the papers' tables that are other authors' methods are left out. Musgrave et al. report Precision@1, which is
Recall@1, as a mean over four networks; the recipe's first lines say what differs.

## Studies of the papers

`python -m dml.train study=… experiment=… dataset.root=…`; none was run on a whole benchmark. A study's first lines say
on which ground the paper has it.

{studies()}
## Faces

Public listings of benchmarks give these for the multi-similarity loss. Who trained them, and on which images, is not
known, so there is no recipe. [Verification](datasets.md#verification) has the command for pairs.

{faces}"""


def main(arguments: Sequence[str] | None = None, docs: Path = DOCS) -> None:
    """Enter runs, then write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run of an experiment")
    records = docs / "reproduction.json"
    try:
        new = [read_run(folder) for folder in parser.parse_args(arguments).runs]
    except UserError as error:
        sys.exit(f"Error: {error}")
    runs = merged(json.loads(records.read_text()) if records.is_file() else [], new)
    records.write_text(json.dumps(runs, indent=1) + "\n")
    (docs / "reproduction.md").write_text(page(runs))


if __name__ == "__main__":
    main()
