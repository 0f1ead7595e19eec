"""What `python -m dml.compare` prints and writes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Picture
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from dml.analysis.comparison import Disagreement, Figure, Run, compare, disagreement, letter
from dml.callbacks.retrieval_grid import QUERY, RIGHT, WRONG, show
from dml.config.build import build_data
from dml.config.evaluation import check_evaluation
from dml.config.trusted import read_run
from dml.data.datamodule import EmbeddingDataModule
from dml.errors import UserError
from dml.runs.picture import save_picture
from dml.runs.subject import subject
from dml.runs.tables import BOOKTABS, Row, latex, markdown, write_csv, write_text

EXAMPLES = 4
NOTE = (
    "In brackets 95% intervals over the choice of test classes, paired for the differences; another seed is not "
    "in them. Better or worse: the interval of the difference leaves out 0."
)


def write_comparison(runs: Sequence[Run], folder: Path, trust: Sequence[str]) -> None:
    """Write `comparison.md`, `.csv`, `.tex` and `.png`, then print the tables; `trust` is as in `data_of_run`."""
    figures = compare(runs)
    table = rows(figures, len(runs))
    named = [(letter(n), run) for n, run in enumerate(runs)]
    title = "\n".join(f"{name} = {run.folder}" for name, run in named)
    write_text(folder / "comparison.md", f"{title}\n\n{NOTE}\n\n{markdown(table)}")
    write_figures(folder / "comparison.csv", figures, [run.folder for run in runs])
    write_text(folder / "comparison.tex", f"{BOOKTABS}\n{latex(table)}")
    differing = disagreement(*runs[:2])
    if differing.first_only or differing.second_only:
        save_picture(folder / "comparison.png", partial(draw, runs[0], runs[1], differing, trust))
    print_figures(figures, len(runs), title)
    print(NOTE)
    for name, run in named[1:]:
        differing = disagreement(runs[0], run)
        print(
            f"Recall@1: {differing.both:,} queries both A and {name} get right, {len(differing.first_only):,} A alone, "
            f"{len(differing.second_only):,} {name} alone, {differing.neither:,} neither."
        )


def rows(figures: Sequence[Figure], runs: int) -> list[Row]:
    """Header and rows of the wide table: a metric, each run's mean, each difference from the first run's."""
    names = [*map(letter, range(runs))]
    header = ("metric", *names, *(f"{name} − {names[0]}" for name in names[1:]))
    table = [header]
    for start in range(0, len(figures), runs):
        own = figures[start : start + runs]
        table.append((own[0].metric, *map(_mean, own), *(f"{_difference(f)} {f.verdict}" for f in own[1:])))
    return table


def _mean(figure: Figure) -> str:
    return f"{figure.value:.4f} [{figure.low:.3f}, {figure.high:.3f}]"


def _difference(figure: Figure) -> str:
    return f"{figure.difference:+.4f} [{figure.difference_low:.3f}, {figure.difference_high:.3f}]"


def print_figures(figures: Sequence[Figure], runs: int, title: str) -> None:
    """Print a row for each metric and run, which fits a terminal whatever the number of runs."""
    names = [*map(letter, range(runs))]
    table = Table("metric", "run", "mean", f"− {names[0]}", "")
    for figure in figures:
        first, last = figure.run == 0, figure.run == runs - 1
        difference = "" if first else _difference(figure)
        verdict = figure.verdict.replace("undecided", "")  # 80 columns have no room for it
        cells = names[figure.run], _mean(figure), difference, verdict
        table.add_row(figure.metric if first else "", *cells, end_section=last)
    print(title)
    Console().print(table)


def write_figures(file: Path, figures: Sequence[Figure], folders: Sequence[Path]) -> None:
    """Write all digits of every figure, a row for each metric and run."""
    digits = ([*f, f.verdict, folders[f.run]] for f in figures)
    write_csv(file, [*Figure._fields, "verdict", "folder"], digits)


def draw(first: Run, second: Run, differing: Disagreement, trust: Sequence[str]) -> Picture:
    """A row for each example, spread evenly: a query, its nearest image under the first run and under the second."""
    data = data_of_run(first.folder, trust)
    examples = [*spread(differing.first_only), *spread(differing.second_only)]
    figure = Picture(figsize=(4.8, 1.9 * len(examples)), dpi=120, layout="constrained")
    figure.suptitle("query, nearest under A, nearest under B", fontsize=8)
    images = data.test_dataloader().dataset
    place = {name: n for n, name in enumerate(data.evaluation_set("test").samples.names)}
    for axes, q in zip(figure.subplots(len(examples), 3, squeeze=False), examples, strict=True):
        row = first.queries.rows[q]
        show(axes[0], images[place[row["name"]]]["image"], row["class"], QUERY)
        for axis, run in zip(axes[1:], (first, second), strict=True):
            found = run.queries.rows[q]
            right = found["nearest_class"] == row["class"]
            title = f"{float(found['nearest_similarity']):.2f}  {found['nearest_class']}"
            show(axis, images[place[found["nearest_name"]]]["image"], title, RIGHT if right else WRONG)
    return figure


def spread(positions: Sequence[int]) -> list[int]:
    """Up to four of the positions, from the first to the last."""
    chosen = np.linspace(0, len(positions) - 1, min(EXAMPLES, len(positions))).round().astype(int)
    return [positions[i] for i in chosen]


def data_of_run(folder: Path, trust: Sequence[str] = ()) -> EmbeddingDataModule:
    """The dataset on which a run or an evaluation was tested; `trust` names the user's own modules that define it.

    Raises:
        UserError: its checkpoint or its images are no longer there.
    """
    file = folder / ".hydra" / "config.yaml"
    config = DictConfig(OmegaConf.load(file) if file.is_file() else {})
    if "trust" in config:  # an evaluation
        config.trust = [*(config.trust or ()), *trust]
        check_evaluation(config)  # a run's folder stands for its best checkpoint
        return build_data(subject(config).config)
    best = folder / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise UserError(f"{best} is not there to say where the images are")
    return build_data(read_run(best, trust=trust).config)
