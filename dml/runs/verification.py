"""Verification with a checkpoint: same or different, on a list of pairs of images."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything
from torch import Tensor, nn
from torch.nn import functional as F

from dml.analysis.baselines import RawPixels
from dml.analysis.roc_plot import plot_roc
from dml.callbacks.retrieval_metrics import EmbeddingCollector
from dml.config.build import build
from dml.config.evaluation import check_evaluation
from dml.data.checks import check_files
from dml.data.datamodule import EmbeddingDataModule
from dml.data.pairs import PairList, read_pairs
from dml.data.split import Samples
from dml.distributed import is_first_process
from dml.module import EvaluationModule
from dml.retrieval.collapse import is_collapsed
from dml.retrieval.verification import FAR_LEVELS, Accuracy, Roc, accuracy, needed_negatives, roc
from dml.runs.evaluation import build_tester, network
from dml.runs.folder import OF_A_TEST, set_aside
from dml.runs.picture import save_picture
from dml.runs.report import print_figures, write_metrics
from dml.runs.subject import subject
from dml.runs.tables import write_csv

INTERVAL = "the mean over the folds ± Student's t times its standard error"
PAIRS_AT_A_TIME = 65_536
Judged = tuple[Accuracy, Roc]


def verify(config: DictConfig) -> dict[str, Any]:
    """Embed each image of the list once, judge the pairs, write figures and ROC; returns what is in `metrics.json`."""
    check_evaluation(config)
    pairs = read_pairs(config.dataset.pairs, config.dataset.root)
    check_files(pairs.files)
    settings = config.copy()  # neither the data set of the run is needed, nor what measures retrieval
    settings.callbacks.recall = settings.callbacks.retrieval_grid = settings.dataset.pairs = None
    if not OmegaConf.is_missing(config, "ckpt_path"):
        settings.dataset = {"recall_at": None}
    run, weights, _ = subject(settings)
    trainer, collected = build_tester(settings, run), EmbeddingCollector()
    trainer.callbacks.append(collected)  # type: ignore[attr-defined]
    data: EmbeddingDataModule = build(run.data)
    data.test_on(Samples(pairs.files, np.zeros(len(pairs.files), dtype=np.int64), pairs.names))

    def judged(embedder: nn.Module) -> tuple[Judged, bool]:
        trainer.test(EvaluationModule(embedder), datamodule=data, verbose=False)
        z_ND = collected.store.ordered(len(pairs.files)).cpu()
        similarity_P = similarities(z_ND, pairs)
        found = accuracy(similarity_P, pairs.same, pairs.fold), roc(similarity_P, pairs.same)
        return found, is_collapsed(z_ND)

    seed_everything(run.seed, workers=True, verbose=False)
    embedder, name = network(run, weights, config)
    columns = {"raw pixels": judged(RawPixels())[0]} if config.baselines else {}
    columns["test"], collapsed = judged(embedder)
    figures = report(columns, pairs) | ({"collapsed": True} if collapsed else {})
    if trainer.is_global_zero:
        folder, curves = Path(config.run_dir), {name: curve for name, (_, curve) in columns.items()}
        write_metrics(folder, figures)
        write_roc(folder / "roc.csv", curves)
        save_picture(folder / "roc.png", partial(plot_roc, curves))
        print_figures(f"{config.dataset.pairs}, {name}", figures, "test", INTERVAL)
        for metric, why in figures["not_measured"].items():
            print(f"{metric.removeprefix('test/')} {why}.")
    return figures


def similarities(z_ND: Float[Tensor, "N D"], pairs: PairList) -> Float[np.ndarray, "P"]:
    """(P,) cosine similarities of the pairs, float64."""
    chunks = zip(
        *(torch.from_numpy(i).split(PAIRS_AT_A_TIME) for i in (pairs.first, pairs.second)), strict=True
    )
    return torch.cat([F.cosine_similarity(z_ND[i].double(), z_ND[j].double()) for i, j in chunks]).numpy()


def named(judged: Judged) -> dict[str, float]:
    """The figures by name; without the TAR at levels for which there are too few different pairs."""
    measured, curve = judged
    tar = {f"tar_at_far_{level:g}": curve.tar_at(level) for level in FAR_LEVELS}
    return {
        "verification_accuracy": measured.mean,
        "verification_accuracy_se": measured.error,
        **{name: value for name, value in tar.items() if value is not None},
        "auc": curve.auc,
    }


def too_few(curve: Roc) -> dict[str, str]:
    """What each level that is not measured needs."""
    return {
        f"tar_at_far_{level:g}": f"needs {needed_negatives(level):,} negative pairs; the list has {curve.negatives:,}"
        for level in FAR_LEVELS
        if curve.tar_at(level) is None
    }


def report(columns: Mapping[str, Judged], pairs: PairList) -> dict[str, Any]:
    """The content of `metrics.json`."""
    measured, curve = columns["test"]
    return {
        **{f"test/{name}": value for name, value in named(columns["test"]).items()},
        "intervals": {
            f"{column}/verification_accuracy": list(of.interval) for column, (of, _) in columns.items()
        },
        "not_measured": {f"test/{name}": why for name, why in too_few(curve).items()},
        "baselines": {name: named(judged) for name, judged in columns.items() if name != "test"},
        "images": len(pairs.files),
        "pairs_same": int(pairs.same.sum()),
        "pairs_different": curve.negatives,
        "folds": len(measured.thresholds),
        "fingerprint": pairs.fingerprint(),
        "protocol": "verification: each fold judged at the threshold that is best on the others",
    }


def write_roc(file: Path, curves: Mapping[str, Roc]) -> None:
    """A row for each network and threshold, all digits."""
    rows = (
        (name, *point)
        for name, curve in curves.items()
        for point in zip(curve.threshold.tolist(), curve.far.tolist(), curve.tar.tolist(), strict=True)
    )
    write_csv(file, ("network", "threshold", "far", "tar"), rows)


def run(config: DictConfig) -> None:
    """Verify, write the figures and print their folder."""
    if is_first_process():
        set_aside(config.run_dir, OF_A_TEST)
    verify(config)
    if is_first_process():
        print(config.run_dir)
