"""Makes and changes an index of images: `python -m dml.index`."""

import fnmatch
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from omegaconf import DictConfig

from dml.config.check import check
from dml.config.evaluation import checkpoint_file
from dml.config.limits import check_limits
from dml.distributed import is_first_process
from dml.errors import UserError, note
from dml.runs.folder import set_aside
from dml.runs.tables import write_csv
from dml.use.check import check_index
from dml.use.embedding import TrainedEmbedder, load
from dml.use.embedding_pass import embed_parts
from dml.use.engine import check_answers, empty_engine, open_engine
from dml.use.index_folder import NAME, Items, State, commit, editions, parts_of, read_items, read_state
from dml.use.listing import Listed, list_images
from dml.use.measure import measure
from dml.use.parts import PENDING, claim

SKIPPED = "skipped.csv"
NAMED = 3  # broken files, in the note


def run(config: DictConfig) -> State:
    """Do what the command line asks; returns what `index.json` then holds."""
    check_index(config)
    check(config.trainer, "trainer")
    check_limits(config.trainer)
    folder = Path(config.out)
    if config.remove is not None:
        state = remove_images(folder, config.remove) if is_first_process() else read_state(folder)
    elif config.add is not None:
        state = add_images(config, folder)
    else:
        state = index_images(config, folder)
    if is_first_process():
        print(describe(state), folder, sep="\n")
    return state


def index_images(config: DictConfig, folder: Path) -> State:
    """Make an index."""
    listed = list_images(Path(config.images), "images")
    trained = load(config.ckpt_path, device="cpu", trust=config.trust)
    if config.overwrite and is_first_process():
        old = [file.name for file in editions(folder)]
        set_aside(folder, [NAME, PENDING, SKIPPED, "parts", *old])
    uri, in_milvus = config.index.uri, config.index.engine == "milvus"
    state = State(
        engine=config.index.engine,
        type=config.index.type,
        uri=os.path.relpath(uri, folder) if in_milvus and "://" not in uri else uri,
        collection=f"dml_{uuid4().hex[:12]}" if in_milvus else None,
        checkpoint=os.path.relpath(config.ckpt_path, folder),
        fingerprint=trained.fingerprint,
        preprocessing=trained.preprocessing,
        dim=trained.embedding_dim,
        root=os.path.relpath(listed.root, folder),
    )
    none_yet = Items(np.empty(0, dtype=np.int64), [], [])
    return embed_and_add(config, folder, state, none_yet, listed, trained)


def add_images(config: DictConfig, folder: Path) -> State:
    """Add the images that are not in the index yet."""
    state = read_state(folder)
    items = read_items(folder, state)
    found = list_images(Path(config.add), "add").relative_to(folder / state.root)
    listed = found.without(items.names)
    if not listed.names:
        raise UserError(f"add={config.add}: all {len(found.names):,} images are in the index already.")
    if known := len(found.names) - len(listed.names):
        note(f"{known:,} images are in the index already and are left out.")
    path = config.ckpt_path or checkpoint_file(folder / state.checkpoint)
    trained = load(path, device="cpu", trust=config.trust)
    check_model(state, trained, path)
    if config.overwrite and is_first_process():
        (folder / PENDING).unlink(missing_ok=True)
    return embed_and_add(config, folder, state, items, listed, trained)


def check_model(state: State, trained: TrainedEmbedder, path: str | Path) -> None:
    """Raise UserError if a checkpoint is not the one that made the index."""
    if trained.fingerprint != state.fingerprint:
        raise UserError(
            f"ckpt_path={path} is another model than the index's, with other weights or preprocessing (fingerprint "
            f"{trained.fingerprint}, not {state.fingerprint}): give the index's own checkpoint with ckpt_path=…, or "
            "index the images anew."
        )


def embed_and_add(
    config: DictConfig, folder: Path, state: State, items: Items, listed: Listed, trained: TrainedEmbedder
) -> State:
    """Embed images on all processes; on the first, add those that can be read to the index's items."""
    first = state.rows
    if is_first_process():
        check_answers(folder, state)
        claim(folder, first, trained.fingerprint, listed)
    embed_parts(trained, listed, folder, first, config.trainer, config.data)
    if not is_first_process():
        return state
    grown = state.model_copy(update={"rows": first + len(listed.names)})
    parts = parts_of(folder, grown)
    rows = parts.readable(first)
    report_skipped(folder, listed, {row - first: said for row, said in parts.problems(first).items()})
    new = Items(rows, *([names[row - first] for row in rows.tolist()] for names in listed[1:]))
    engine = open_engine(folder, state) if state.edition else empty_engine(folder, state, parts, new)
    engine.add(parts, new)
    items = items + new
    measured = measure(engine.search, parts, items.ids)
    done = commit(folder, grown, items, engine.save, measured=measured)
    (folder / PENDING).unlink(missing_ok=True)
    return done


def remove_images(folder: Path, pattern: str) -> State:
    """Remove the image of a name, or all that match a pattern such as `'shoes/*'`; its files stay where they are."""
    state = read_state(folder)
    items = read_items(folder, state)
    names = {pattern} & {*items.names} or {*fnmatch.filter(items.names, pattern)}
    gone_N = np.array([name in names for name in items.names])
    if not gone_N.any() or gone_N.all():
        which = "every image" if gone_N.all() else "no image"
        raise UserError(f"remove={pattern} names {which} of the index, such as {items.names[0]}.")
    left, engine, parts = items.subset(~gone_N), open_engine(folder, state), parts_of(folder, state)
    engine.remove(parts, items.subset(gone_N), left)
    print(f"removed: {gone_N.sum():,} images")
    return commit(folder, state, left, engine.save, measured=measure(engine.search, parts, left.ids))


def report_skipped(folder: Path, listed: Listed, problems: dict[int, str]) -> None:
    """Write `skipped.csv` and note the first of the images that cannot be read; a UserError if none can be."""
    rows: list[Any] = [(listed.names[n], problems[n]) for n in sorted(problems)]
    write_csv(folder / SKIPPED, ("name", "problem"), rows)
    if len(rows) == len(listed.names):
        raise UserError(f"None of the {len(rows):,} images can be read, the first because: {rows[0][1]}")
    if rows:
        more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
        note(
            f"{len(rows):,} of {len(listed.names):,} images cannot be read and are left out, listed in "
            f"{folder / SKIPPED}: {', '.join(name for name, _ in rows[:NAMED])}{more}."
        )


def describe(state: State) -> str:
    """An index in a line."""
    recall = state.measured.get("recall_at_1")
    found = "" if recall is None else f"; Recall@1 against exact search {recall:.4f}"
    kind = state.type if state.engine == "faiss" else f"Milvus at {state.uri}"
    return (
        f"{state.images:,} images of {state.classes:,} classes, {state.dim} dimensions, {kind}{found}; "
        f"{state.measured['queries_per_second']:,.0f} queries/s"
    )
