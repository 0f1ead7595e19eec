"""Searches an index for the images nearest to others: `python -m dml.search`."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from dml.callbacks.retrieval_grid import QUERY, sheet
from dml.config.evaluation import checkpoint_file
from dml.errors import UserError, note, printable
from dml.runs.folder import set_aside
from dml.runs.picture import save_picture
from dml.runs.tables import write_csv
from dml.use.check import check_search
from dml.use.embedding import TrainedEmbedder, load
from dml.use.embedding_pass import ReadableImages, collate_readable
from dml.use.engine import open_engine
from dml.use.index_folder import Items, read_items, read_state
from dml.use.indexing import check_model
from dml.use.listing import Files, Listed, list_images

RESULTS, SHEET = "results.csv", "results.png"
FOUND = "#808080"
GREY = torch.full((1, 8, 8), 200, dtype=torch.uint8)
PRINTED = 20  # queries


class Found(NamedTuple):
    """An image that was found: its position among the index's items, and its cosine similarity to the query."""

    item: int
    score: float


def run(config: DictConfig) -> list[list[Found]]:
    """Do what the command line asks; returns what was found for each query, nearest first."""
    check_search(config)
    index, folder = Path(config.index), Path(config.run_dir)
    set_aside(folder, (RESULTS, SHEET))
    state = read_state(index)
    items, engine = read_items(index, state), open_engine(index, state)
    path = config.ckpt_path or checkpoint_file(index / state.checkpoint)
    trained = load(path, config.device, config.trust)
    check_model(state, trained, path)
    queries, z_QD = embed_queries(trained, list_queries(Path(config.image)), config.data)
    if config.k > len(items):
        note(f"k={config.k} is more than the {len(items):,} images of the index: all are given.")
    ids_QK, S_QK = engine.search(z_QD, min(config.k, len(items)))
    found = [
        [Found(int(np.searchsorted(items.ids, n)), float(s)) for n, s in zip(*row, strict=True) if n >= 0]
        for row in zip(ids_QK, S_QK, strict=True)
    ]
    write_results(folder, queries, items, found)
    print_results(queries, items, found)
    root = Path(config.root) if config.root else index / state.root
    rows = [
        [(queries.root / name, Path(name).name, QUERY)]
        + [
            (root / items.names[n], f"{s:.2f}  {items.classes[n]}", FOUND)
            for n, s in row[: config.sheet.neighbours]
        ]
        for name, row in zip(queries.names[: config.sheet.queries], found, strict=False)
    ]
    save_picture(folder / SHEET, lambda: draw(trained, rows))
    print(folder)
    return found


def draw(trained: TrainedEmbedder, rows: list[list[tuple[Path, str, str]]]) -> Figure:
    """A sheet of files, as the network sees them; one that cannot be read is a grey tile, with a note."""
    missing: list[Path] = []

    def image(file: Path) -> torch.Tensor:
        try:
            return trained.dataset(file)[0]["image"]
        except UserError:
            missing.append(file)
            return GREY

    drawn = sheet([[(image(file), title, colour) for file, title, colour in row] for row in rows])
    if missing:
        note(
            f"Grey tiles stand for {len(missing):,} images that cannot be read, such as {missing[0]}: root=… gives the "
            "folder that holds the index's images now."
        )
    return drawn


def list_queries(source: Path) -> Listed:
    """An image, or the images of a folder or a table."""
    if source.is_file() and source.suffix.lower() != ".csv":
        return Listed(source.parent, [source.name], [""])
    return list_images(source, "image")


def embed_queries(
    trained: TrainedEmbedder, listed: Listed, data: DictConfig
) -> tuple[Listed, Float[np.ndarray, "Q D"]]:
    """The queries that can be read and their embeddings, (Q, D); a note says how many cannot."""
    images = ReadableImages(trained.dataset_of(Files(listed.root, listed.names), listed.names))
    batches = DataLoader(
        images, data.eval_batch_size, num_workers=data.num_workers, collate_fn=collate_readable
    )
    rows, problems, z = [], [], [np.empty((0, trained.embedding_dim), np.float32)]
    for batch in batches:
        problems += batch["problems"].values()
        rows += batch["index"].tolist()
        if batch["image"] is not None:
            z.append(trained.embed_batch(batch["image"]).cpu().numpy())
    if not rows:
        raise UserError(problems[0])
    if problems:
        note(f"{len(problems):,} of {len(images):,} queries cannot be read and are left out: {problems[0]}")
    kept = Listed(listed.root, *([names[n] for n in rows] for names in listed[1:]))
    return kept, np.concatenate(z)


def write_results(folder: Path, queries: Listed, items: Items, found: list[list[Found]]) -> None:
    """`results.csv`, a row an image that was found."""
    rows = (
        (name, rank, items.names[n], items.classes[n], f"{score:.6f}")
        for name, row in zip(queries.names, found, strict=True)
        for rank, (n, score) in enumerate(row, start=1)
    )
    write_csv(folder / RESULTS, ("query", "rank", "name", "class", "score"), rows)


def print_results(queries: Listed, items: Items, found: list[list[Found]]) -> None:
    """What was found for the first queries."""
    for name, row in zip(queries.names[:PRINTED], found, strict=False):
        print(printable(name))
        for rank, (n, score) in enumerate(row, start=1):
            print(printable(f"{rank:4}  {score:.4f}  {items.names[n]}  {items.classes[n]}".rstrip()))
    if len(found) > PRINTED:
        print(f"and {len(found) - PRINTED:,} more queries in {RESULTS}")
