"""The same vectors in Milvus, embedded in a file or on a server, when one machine is outgrown."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from dml.errors import UserError, printable
from dml.use.faiss_index import pieces_of
from dml.use.index_folder import Items, State
from dml.use.parts import Parts

CONNECT, ANSWER = 10, 120  # seconds that Milvus has
CHATTY = ("grpc._server", "milvus_lite", "pymilvus")  # what goes wrong is raised as well
AT_ONCE = 1000  # queries; it takes at most 16,384
LONGEST = 65_535  # bytes of a text in Milvus


class MilvusIndex:
    """Nearest embeddings by inner product, in a collection of `id`, `vector`, `name` and `class`."""

    save = None  # nothing of it lies in the folder

    def __init__(self, folder: Path, state: State) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        try:
            from pymilvus import MilvusClient
        except ImportError:
            raise UserError("index.engine=milvus needs pymilvus: pip install 'dml[milvus]'.") from None
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        uri = str(state.uri)
        self.uri = uri if "://" in uri else os.path.normpath(folder / uri)
        self.kind, self.collection = state.type, str(state.collection)
        with self._answers():
            self.client = MilvusClient(self.uri, timeout=CONNECT)

    @classmethod
    def opened(cls, folder: Path, state: State) -> "MilvusIndex":
        """The collection of an index, ready to be searched."""
        found = cls(folder, state)
        with found._answers():
            found.client.load_collection(found.collection, timeout=ANSWER)
        return found

    @classmethod
    def empty(cls, folder: Path, state: State, size: int) -> "MilvusIndex":
        """A new collection for about `size` vectors."""
        made = cls(folder, state)
        with made._answers():
            made._create(state.dim, size)
        return made

    def add(self, parts: Parts, items: Items) -> None:
        """Write rows of the parts; those that are there already are written again."""
        named = zip(items.names, items.classes, strict=True)
        for ids_B, z_BD in parts.of(items.ids):
            rows = [
                {"id": id_, "vector": z_D, "name": printable(name), "class": printable(label)}
                for id_, z_D, (name, label) in zip(ids_B.tolist(), z_BD, named, strict=False)
            ]
            with self._answers():
                self.client.upsert(self.collection, rows, timeout=ANSWER)
        with self._answers():
            self.client.flush(self.collection, timeout=ANSWER)

    def remove(self, parts: Parts, gone: Items, left: Items) -> None:
        """Remove some rows."""
        for ids in np.array_split(gone.ids, len(gone) // AT_ONCE + 1):
            with self._answers():
                self.client.delete(self.collection, ids=ids.tolist(), timeout=ANSWER)

    def search(
        self, z_QD: Float[np.ndarray, "Q D"], k: int
    ) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
        """As that of `FaissIndex`."""
        ids_QK = np.full((len(z_QD), k), -1, dtype=np.int64)
        S_QK = np.full((len(z_QD), k), -np.inf, dtype=np.float32)
        wider = {"hnsw": {"ef": max(128, k)}, "ivfpq": {"nprobe": 32}}.get(self.kind, {})
        for start in range(0, len(z_QD), AT_ONCE):
            with self._answers():
                found = self.client.search(
                    self.collection,
                    data=[*z_QD[start : start + AT_ONCE]],
                    limit=k,
                    search_params={"metric_type": "IP", "params": wider},
                    timeout=ANSWER,
                )
            for q, hits in enumerate(found, start=start):
                ids_QK[q, : len(hits)] = [hit["id"] for hit in hits]
                S_QK[q, : len(hits)] = [hit["distance"] for hit in hits]
        return ids_QK, S_QK

    def close(self) -> None:
        """Let go of the connection, which processes that read images must not inherit."""
        self.client.close()

    def _create(self, dim: int, size: int) -> None:
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        for name in ("name", "class"):
            schema.add_field(name, DataType.VARCHAR, max_length=LONGEST)
        kind, settings = {
            "flat": ("FLAT", {}),
            "hnsw": ("HNSW", {"M": 32, "efConstruction": 40}),
            "ivfpq": ("IVF_PQ", {"nlist": round(4 * size**0.5), "m": pieces_of(dim), "nbits": 8}),
        }[self.kind]
        index = self.client.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type="IP", params=settings)
        self.client.create_collection(
            self.collection, schema=schema, index_params=index, consistency_level="Strong", timeout=ANSWER
        )

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Inside, what Milvus says or leaves unsaid is a UserError."""
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except MilvusException as error:
            reason = " ".join(str(getattr(error, "message", error)).split())[:200]
            raise UserError(f"Milvus at {self.uri} does not answer, or refuses ({reason}).") from error
