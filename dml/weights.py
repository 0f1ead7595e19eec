"""Pair weights of a loss, and the similarities that they depend on: `python -m dml.weights loss=ms`."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from dml.analysis.dependence import KINDS, Kind, WeightDependence, weight_dependence
from dml.analysis.weight_curves import WeightCurves, plot_weights, weight_curves
from dml.config.cli import CONF, one_sentence
from dml.errors import UserError
from dml.losses import PairLoss
from dml.runs.folder import set_aside

SHOWN = (-0.5, 0.0, 0.25, 0.5, 0.75, 0.95)
Dependences = Mapping[str, Mapping[Kind, WeightDependence]]


def weights(config: DictConfig) -> dict[str, dict[Kind, WeightDependence]]:
    """Print and write each loss's weight curves and what its weights depend on; return the latter."""
    # Imported here because it imports Lightning.
    from dml.config.build import build
    from dml.config.check import check

    check(config.row, path="row")
    losses = build_losses(config)
    row = build(config.row)
    curves = {name: weight_curves(loss, row) for name, loss in losses.items()}
    dependences = {
        name: {kind: weight_dependence(loss, kind) for kind in KINDS} for name, loss in losses.items()
    }

    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plot_weights(curves, row).savefig(folder / "weights.png", dpi=150)
    write_csv(folder / "weights.csv", ("loss", "kind", "similarity", "weight"), curve_rows(curves))
    write_csv(folder / "similarities.csv", ("loss", "kind", "S", "N", "P"), dependence_rows(dependences))
    print_curves(curves)
    print_dependences(dependences)
    return dependences


def build_losses(config: DictConfig) -> dict[str, PairLoss]:
    """The losses by name: those named in `config.losses`, or `config.loss` alone.

    Raises:
        UserError: there is no loss of a given name, or no loss uses `mining` or `weighting`.
    """
    from dml.config.build import build_loss
    from dml.config.check import check_halves, references

    if config.losses is None:
        check_halves(config, references(config))
        return {config.name: build_loss(config.loss, config.num_classes)}
    losses = {}
    read = set()
    for name in [config.losses] if isinstance(config.losses, str) else config.losses:
        file = Path(CONF) / "loss" / f"{name}.yaml"
        if not file.is_file():
            known = ", ".join(sorted(other.stem for other in file.parent.glob("*.yaml")))
            raise UserError(f"losses: there is no loss {name}; there are {known}.")
        one = config.copy()
        OmegaConf.set_struct(one, False)
        one.loss = OmegaConf.load(file)
        losses[name] = build_loss(one.loss, config.num_classes)
        read |= references(one)
    check_halves(config, read)
    return losses


def write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows with all digits of every number."""
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def curve_rows(curves: Mapping[str, WeightCurves]) -> Iterable[Sequence[object]]:
    """One row per loss, kind of pair and similarity."""
    for name, curve in curves.items():
        for kind, weight in zip(KINDS, (curve.positive, curve.negative), strict=True):
            for s, w in zip(curve.similarity.tolist(), weight.tolist(), strict=True):
                yield name, kind, f"{s:.6g}", w


def dependence_rows(dependences: Dependences) -> Iterable[Sequence[object]]:
    """One row per loss and kind of pair: the shares of anchors whose weight changed."""
    for name, kinds in dependences.items():
        for kind, shares in kinds.items():
            yield name, kind, *shares


def short(weight: float) -> str:
    """Three significant digits, at most three decimals."""
    return f"{weight:.3g}" if weight >= 1 else f"{weight:.3f}"


def print_curves(curves: Mapping[str, WeightCurves]) -> None:
    """Print the weights at a few similarities."""
    table = Table(
        title="Weight of a pair against its own similarity S, rest of the row fixed",
        title_justify="left",
    )
    table.add_column("loss", no_wrap=True)
    table.add_column("pair")
    for s in SHOWN:
        table.add_column(f"{s:g}", justify="right")
    for name, curve in curves.items():
        near = [int((curve.similarity - s).abs().argmin()) for s in SHOWN]
        for kind, weight in zip(KINDS, (curve.positive, curve.negative), strict=True):
            cells = (short(weight[i].item()) for i in near)
            table.add_row(name, kind[:3], *cells, end_section=kind == KINDS[-1])
    Console().print(table)


def print_dependences(dependences: Dependences) -> None:
    """Print which similarities a weight depends on."""
    table = Table(title="Similarities that the weight depends on", title_justify="left")
    table.add_column("loss", no_wrap=True)
    table.add_column("pair")
    for heading in ("S\nits own", "N\nnegatives", "P\npositives"):
        table.add_column(heading, justify="center")
    for name, kinds in dependences.items():
        for kind, shares in kinds.items():
            marks = ("✓" if share > 0 else "–" for share in shares)
            table.add_row(name, kind[:3], *marks, end_section=kind == KINDS[-1])
    Console().print(table)


@hydra.main(version_base="1.3", config_path=CONF, config_name="weights")
@one_sentence
def main(config: DictConfig) -> None:
    """Analyse one loss or several; print the run's folder last."""
    set_aside(config.run_dir, ["weights.png", "weights.csv", "similarities.csv"])
    weights(config)
    print(config.run_dir)


if __name__ == "__main__":
    main()
