"""Checks of the command lines of `dml.index` and `dml.search`, before anything is read or written."""

from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, NonNegativeInt, PositiveInt

from dml.config.check import valid
from dml.config.evaluation import checkpoint_file
from dml.errors import UserError
from dml.use.index_folder import NAME, read_state

INDEX: dict[str, Any] = {
    "ckpt_path": str | None,
    "images": str | None,
    "out": str | None,
    "add": str | None,
    "remove": str | None,
    "overwrite": bool,
    "index.type": Literal["flat", "hnsw", "ivfpq"],
    "index.engine": Literal["faiss", "milvus"],
    "index.uri": str | None,
    "data.eval_batch_size": PositiveInt,
    "data.num_workers": NonNegativeInt | None,
}
SEARCH: dict[str, Any] = {
    "index": str | None,
    "image": str | None,
    "k": PositiveInt,
    "ckpt_path": str | None,
    "root": str | None,
    "device": str | None,
    "data.eval_batch_size": PositiveInt,
    "data.num_workers": NonNegativeInt,
    "sheet.queries": Annotated[int, Field(ge=1, le=20)],
    "sheet.neighbours": Annotated[int, Field(ge=1, le=20)],
}
OTHERS = {"trust", "trainer", "run_dir", "overwrite"}


def check_index(config: DictConfig) -> None:
    """Check the command line of `dml.index`."""
    _check_values(config, INDEX)
    given = [key for key in ("images", "add", "remove") if config[key] is not None]
    if config.out is None:
        raise UserError("out is missing: give the folder of the index, out=….")
    if len(given) != 1:
        raise UserError(
            "Give images=… to make an index, or add=… or remove=… to change one"
            f"{', one at a time, not ' + ' and '.join(given) if given else ''}."
        )
    [key] = given
    if key != "remove" and not Path(config[key]).exists():
        raise UserError(f"{key}={config[key]} is not there: give a folder of images or a CSV table.")
    if config.ckpt_path is not None:
        config.ckpt_path = checkpoint_file(config.ckpt_path)
    if key != "images":
        read_state(Path(config.out), "out")
        return
    if config.ckpt_path is None:
        raise UserError("ckpt_path is missing: give the checkpoint that embeds the images, ckpt_path=….")
    if (Path(config.out) / NAME).exists() and not config.overwrite:
        raise UserError(
            f"out={config.out} holds an index already: add=… adds images to it; or give another folder, or "
            "overwrite=true to move it to its older/."
        )
    if config.index.engine == "milvus":
        _check_milvus(config.index)


def check_search(config: DictConfig) -> None:
    """Check the command line of `dml.search`."""
    _check_values(config, SEARCH)
    for key, what in {"index": "the folder of an index", "image": "an image or a folder of images"}.items():
        if config[key] is None:
            raise UserError(f"{key} is missing: give {what}, {key}=….")
    read_state(Path(config.index))
    if not Path(config.image).exists():
        raise UserError(f"image={config.image} is not there: give an image or a folder of images.")
    if config.root is not None and not Path(config.root).is_dir():
        raise UserError(f"root={config.root} is not a folder: give the one that holds the index's images.")
    if config.ckpt_path is not None:
        config.ckpt_path = checkpoint_file(config.ckpt_path)


def _check_milvus(index: DictConfig) -> None:
    is_file = str(index.uri).endswith(".db")
    if not (is_file or "://" in str(index.uri)):
        raise UserError(
            f"index.uri={index.uri} is no place for Milvus: give a file such as index.uri=images.db, or a server, "
            "http://…."
        )
    if is_file and index.type == "ivfpq":
        raise UserError("index.type=ivfpq needs a server; Milvus in a file knows flat and hnsw.")


def _check_values(config: DictConfig, keys: dict[str, Any]) -> None:
    groups = {key.partition(".")[0] for key in keys}
    if unread := sorted(map(str, config.keys() - groups - OTHERS)):
        raise UserError(f"{unread[0]}=… has no effect: nothing reads it; leave it out.")
    for key, kind in keys.items():
        OmegaConf.update(config, key, valid(OmegaConf.select(config, key), kind, key))
