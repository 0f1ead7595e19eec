"""Where an index's vectors are searched."""

from pathlib import Path

from dml.errors import UserError
from dml.use.faiss_index import FaissIndex
from dml.use.index_folder import ANEW, Items, State
from dml.use.parts import Parts


def empty_engine(folder: Path, state: State, parts: Parts, items: Items) -> FaissIndex:
    """One without vectors, fit for those of the items.

    Raises:
        UserError: there are too few for its type.
    """
    return FaissIndex.empty(state.type, parts, items)


def open_engine(folder: Path, state: State) -> FaissIndex:
    """That of an index.

    Raises:
        UserError: it cannot be read, or does not hold the images that are listed.
    """
    file = folder / state.file("index.faiss")
    engine = FaissIndex.load(file, state.type)
    if len(engine) != state.images:
        raise UserError(f"{file} holds {len(engine):,} vectors for {state.images:,} images: {ANEW}.")
    return engine
