"""Where an index's vectors are searched: in FAISS, or in Milvus."""

from pathlib import Path

from dml.use.faiss_index import FaissIndex
from dml.use.index_folder import Items, State
from dml.use.milvus_index import MilvusIndex
from dml.use.parts import Parts

Engine = FaissIndex | MilvusIndex


def empty_engine(folder: Path, state: State, parts: Parts, items: Items) -> Engine:
    """One without vectors, fit for those of the items."""
    if state.engine == "milvus":
        return MilvusIndex.empty(folder, state, len(items))
    return FaissIndex.empty(state.type, parts, items)


def open_engine(folder: Path, state: State) -> Engine:
    """That of an index."""
    if state.engine == "milvus":
        return MilvusIndex.opened(folder, state)
    return FaissIndex.opened(folder, state)


def check_answers(folder: Path, state: State) -> None:
    """Raise UserError if the index is to be on a server that does not answer, before images are embedded for it."""
    if state.engine == "milvus" and "://" in str(state.uri):
        MilvusIndex(folder, state).close()
