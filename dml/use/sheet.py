"""A contact sheet: each row a query and the images nearest to it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from dml.callbacks.retrieval_grid import QUERY, show
from dml.errors import UserError, note
from dml.use.embedding import TrainedEmbedder

FOUND = "#808080"
GREY = torch.full((1, 8, 8), 200, dtype=torch.uint8)


def draw(
    trained: TrainedEmbedder,
    queries: Sequence[Path],
    found: Sequence[Sequence[tuple[Path, str, float]]],
    neighbours: int,
) -> Figure:
    """The sheet, images as the network sees them; one that cannot be read is a grey tile, with a note.

    Args:
        trained: has the preprocessing.
        queries: Q files.
        found: for each query file, class and similarity of the images found, nearest first.
        neighbours: most images shown for a query.
    """
    columns = 1 + min(neighbours, max(map(len, found)))
    figure = Figure(figsize=(1.5 * columns, 1.75 * len(queries)), dpi=120, layout="constrained")
    axes = figure.subplots(len(queries), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    missing: list[str] = []
    for row_axes, query, row in zip(axes, queries, found, strict=True):
        tiles = [(query, query.name, QUERY), *((f, f"{score:.2f}  {of}", FOUND) for f, of, score in row)]
        for axis, (file, title, colour) in zip(row_axes, tiles, strict=False):
            axis.set_axis_on()
            show(axis, _image(trained, file, missing), title, colour)
    if missing:
        note(
            f"Grey tiles stand for {len(missing):,} images that cannot be read, such as {missing[0]}: root=… gives the "
            "folder that holds the index's images now."
        )
    return figure


def _image(trained: TrainedEmbedder, file: Path, missing: list[str]) -> torch.Tensor:
    try:
        return trained.dataset(file)[0]["image"]
    except UserError:
        missing.append(str(file))
        return GREY
