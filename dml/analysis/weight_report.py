"""Tables and plot of the pair weights of losses, and of the similarities that they depend on."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Column, Table

from dml.analysis.dependence import KINDS, Kind, WeightDependence, weight_dependence
from dml.analysis.weight_curves import Row, WeightCurves, plot_weights, weight_curves
from dml.config.build import build, build_loss
from dml.config.check import check, check_halves, references
from dml.config.cli import CONF
from dml.errors import UserError
from dml.losses import PairLoss
from dml.runs.folder import set_aside
from dml.runs.picture import save_picture
from dml.runs.tables import write_csv

SHOWN = (-0.5, 0.0, 0.25, 0.5, 0.75, 0.95)
TableRow = tuple[str, Kind, Iterable[Any]]  # loss, kind of pair, cells


def weights(config: DictConfig) -> dict[str, dict[Kind, WeightDependence]]:
    """Print and write each loss's weight curves and what its weights depend on; return the latter."""
    losses, row = check_weights(config)
    curves = {name: weight_curves(loss, row) for name, loss in losses.items()}
    dependences = {
        name: {kind: weight_dependence(loss, kind) for kind in KINDS} for name, loss in losses.items()
    }
    shares: list[TableRow] = [
        (name, kind, d) for name, kinds in dependences.items() for kind, d in kinds.items()
    ]

    folder = Path(config.run_dir)
    write_csv(folder / "weights.csv", ("loss", "kind", "similarity", "weight"), curve_rows(curves))
    rows = ((name, kind, *d) for name, kind, d in shares)
    write_csv(folder / "similarities.csv", ("loss", "kind", "S", "N", "P"), rows)
    print_table(
        "Weight of a pair against its own similarity S, rest of the row fixed",
        [f"{s:g}" for s in SHOWN],
        few_weights(curves),
    )
    print_table(
        "Similarities that the weight depends on",
        ["S\nits own", "N\nnegatives", "P\npositives"],
        [(name, kind, ("✓" if share > 0 else "–" for share in d)) for name, kind, d in shares],
    )
    save_picture(folder / "weights.png", partial(plot_weights, curves, row))
    return dependences


def check_weights(config: DictConfig) -> tuple[dict[str, PairLoss], Row]:
    """The losses by name and the row of pairs, built before anything is written.

    Raises:
        UserError: a key or a value is refused.
    """
    check(config.row, path="row")
    return build_losses(config), build(config.row)


def build_losses(config: DictConfig) -> dict[str, PairLoss]:
    """The losses by name: those named in `config.losses`, or `config.loss` alone.

    Raises:
        UserError: there is no loss of a given name, or no loss uses `mining` or `weighting`.
    """
    names = [config.losses] if isinstance(config.losses, str) else config.losses
    configs = {config.name: config} if names is None else {name: with_loss(config, name) for name in names}
    check_halves(config, set().union(*map(references, configs.values())))
    for one in configs.values():
        check(one.loss, "loss")
    return {name: build_loss(one.loss, config.num_classes) for name, one in configs.items()}


def with_loss(config: DictConfig, name: str) -> DictConfig:
    """A copy of the configuration with the loss of a yaml in conf/loss."""
    file = Path(CONF, "loss", f"{name}.yaml")
    if not file.is_file():
        known = ", ".join(sorted(other.stem for other in file.parent.glob("*.yaml")))
        raise UserError(f"losses: there is no loss {name}; there are {known}.")
    copy = config.copy()
    OmegaConf.set_struct(copy, False)
    copy.loss = OmegaConf.load(file)
    return copy


def curve_rows(curves: Mapping[str, WeightCurves]) -> Iterator[tuple[str, Kind, str, float]]:
    """A row for each loss, kind of pair and similarity: the similarity and the weight."""
    for name, curve in curves.items():
        for kind, weight in zip(KINDS, (curve.positive, curve.negative), strict=True):
            for s, w in zip(curve.similarity.tolist(), weight.tolist(), strict=True):
                yield name, kind, f"{s:.6g}", w


def few_weights(curves: Mapping[str, WeightCurves]) -> Iterator[TableRow]:
    """A row for each loss and kind of pair: the weights at `SHOWN`, to three digits."""
    for name, curve in curves.items():
        near = [int((curve.similarity - s).abs().argmin()) for s in SHOWN]
        for kind, weight in zip(KINDS, (curve.positive, curve.negative), strict=True):
            yield name, kind, [f"{w:.3g}" if w >= 1 else f"{w:.3f}" for w in weight[near].tolist()]


def print_table(title: str, headings: Iterable[str], rows: Iterable[TableRow]) -> None:
    """Print a row for each loss and kind of pair."""
    table = Table(Column("loss", no_wrap=True), "pair", title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, kind, cells in rows:
        table.add_row(name, kind[:3], *map(str, cells), end_section=kind == KINDS[-1])
    Console().print(table)


def run(config: DictConfig) -> None:
    """Analyse one loss or several; print the run's folder last."""
    set_aside(config.run_dir, ["weights.png", "weights.csv", "similarities.csv"])
    weights(config)
    print(config.run_dir)
