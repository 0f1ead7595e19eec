"""A W&B workspace for runs of `logger=wandb`: figures, retrievals, curves, pairs, and what a sweep found.

    pip install "dml[dashboard]"
    python scripts/wandb/dashboard.py --entity me --project dml

Saving needs an account. Building needs none.
"""

import argparse

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

STEP = "trainer/global_step"
RECALL = "test/recall_at_1"
INTERVAL = [f"{RECALL}_low", RECALL, f"{RECALL}_high"]
VALIDATION = "val/best_recall_at_1"
SWEPT = ["loss.alpha", "loss.beta", "loss.lambda", "loss.epsilon"]
COLUMNS = [
    *(f"summary:{name}" for name in (*INTERVAL, "test/map_at_r", VALIDATION, "collapsed")),
    *("config:dataset.value.name", "config:protocol.value", "config:seed.value"),
    *(f"config:{key.replace('.', '.value.', 1)}" for key in SWEPT),
]


def curve(title: str, *names: str) -> wr.LinePlot:
    """Metrics over the optimiser's steps."""
    return wr.LinePlot(title=title, x=STEP, y=list(names))


def sections() -> list[ws.Section]:
    """All sections, from the figures to what explains them."""
    test = [
        wr.BarPlot(title="Recall@1 of the test with its 95% interval", metrics=INTERVAL),
        wr.MediaBrowser(
            title="Test queries and their nearest images", media_keys=["test/retrievals_picture"]
        ),
        wr.WeavePanelSummaryTable(table_name="test/retrievals"),
    ]
    training = [curve("Loss", "train/loss"), curve("Recall@1 in validation", "val/recall_at_1")]
    pairs = [
        curve("Mean similarity", "pairs/positive_similarity", "pairs/negative_similarity"),
        curve("Overlap of positives and negatives", "pairs/overlap"),
        curve("Share of pairs with a weight", "pairs/positive_share", "pairs/negative_share"),
        curve("Entropy of the weights", "pairs/positive_entropy", "pairs/negative_entropy"),
        curve("Effective dimension of a batch", "pairs/effective_dimension"),
    ]
    axes = [*map(wr.Config, SWEPT), wr.SummaryMetric(VALIDATION)]
    sweep = [
        wr.ParallelCoordinatesPlot(
            title="Sweep", columns=[wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
        ),
        wr.ParameterImportancePlot(with_respect_to=VALIDATION),
    ]
    named = {"Test": test, "Training": training, "Pairs": pairs, "Sweep": sweep}
    return [ws.Section(name=name, panels=panels, is_open=True) for name, panels in named.items()]


def workspace(entity: str, project: str) -> ws.Workspace:
    """The workspace, not yet saved; what has no panel of its own, such as histograms, W&B adds below."""
    best_first = [ws.Ordering(ws.Summary(RECALL), ascending=False)]
    return ws.Workspace(
        entity=entity,
        project=project,
        name="dml",
        sections=sections(),
        runset_settings=ws.RunsetSettings(order=best_first, pinned_columns=COLUMNS),
        auto_generate_panels=True,
    )


def main() -> None:
    """Save the workspace."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entity", required=True, help="account or team")
    parser.add_argument("--project", default="dml")
    given = parser.parse_args()
    workspace(given.entity, given.project).save()


if __name__ == "__main__":
    main()
