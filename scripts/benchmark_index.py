"""Each type of index on made-up vectors: build time, Recall@1 against exact search, queries a second, memory.

    python scripts/benchmark_index.py --vectors 20000                                    # a minute
    python scripts/benchmark_index.py --vectors 1000000 --dim 512 --milvus --folder big  # an hour; 2 GB in the folder

The vectors lie in clusters, as embeddings of classes do: a random unit centre each, plus noise of length `--spread`.
Each type has a process of its own. Its memory is what it takes beyond its libraries, vectors on disk not counted.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dml.use.faiss_index import FaissIndex
from dml.use.index_folder import Items, State
from dml.use.measure import measure
from dml.use.milvus_index import MilvusIndex
from dml.use.parts import PART, Parts, part_file, write_part


def write_vectors(folder: Path, vectors: int, dim: int, clusters: int, spread: float) -> None:
    """The vectors in parts on disk; those that are there stay."""
    centre_CD = np.random.default_rng(0).standard_normal((clusters, dim), dtype=np.float32)
    centre_CD /= np.linalg.norm(centre_CD, axis=1, keepdims=True)
    for first in range(0, vectors, PART):
        if part_file(folder, first).is_file():
            continue
        rng = np.random.default_rng([1, first])
        size = min(PART, vectors - first)
        z_BD = rng.standard_normal((size, dim), dtype=np.float32) * (spread / dim**0.5)
        z_BD += centre_CD[rng.integers(clusters, size=size)]
        write_part(folder, first, z_BD / np.linalg.norm(z_BD, axis=1, keepdims=True), {})


def peak_mb() -> float:
    """The most memory the process ever held, in MB; Linux only."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def one(name: str, folder: Path, vectors: int, dim: int) -> dict[str, Any]:
    """Build and measure an index."""
    parts, ids = Parts(folder, vectors, dim), np.arange(vectors)
    items = Items(ids, [f"{n}.jpg" for n in range(vectors)], [""] * vectors)
    before, began = peak_mb(), time.perf_counter()
    engine_name, _, kind = name.rpartition(" ")
    with TemporaryDirectory(dir=folder) as place:
        if engine_name:
            state = State(
                engine="milvus",
                type=kind,  # type: ignore[arg-type]
                uri="vectors.db",
                collection="vectors",
                checkpoint="",
                fingerprint="",
                preprocessing="",
                dim=dim,
                root="",
            )
            engine: FaissIndex | MilvusIndex = MilvusIndex.empty(Path(place), state, vectors)
        else:
            engine = FaissIndex.empty(kind, parts, items)
        engine.add(parts, items)
        build = time.perf_counter() - began
        figures = measure(engine.search, parts, ids)
        peak = peak_mb() - before
        if isinstance(engine, FaissIndex):
            engine.save(Path(place) / "index.faiss")
        size = sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
        if isinstance(engine, MilvusIndex):
            engine.close()
    return figures | {"build": build, "peak": peak, "size": size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--clusters", type=int, help="default: one for 50 vectors")
    parser.add_argument(
        "--spread", type=float, default=1.0, help="length of the noise beside a centre of length 1"
    )
    parser.add_argument("--types", nargs="+", default=["flat", "hnsw", "ivfpq"])
    parser.add_argument("--milvus", action="store_true", help="also Milvus Lite, flat and hnsw")
    parser.add_argument(
        "--folder", type=Path, help="for the vectors, which stay there; default: a temporary one"
    )
    args = parser.parse_args()
    clusters = args.clusters or max(args.vectors // 50, 1)

    with TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        write_vectors(folder, args.vectors, args.dim, clusters, args.spread)
        print(f"{args.vectors:,} × {args.dim}, {clusters:,} clusters, spread {args.spread}")
        print(f"{'type':12} {'build s':>9} {'Recall@1':>9} {'queries/s':>10} {'peak MB':>9} {'file MB':>9}")
        for name in [*args.types, *(["Milvus flat", "Milvus hnsw"] if args.milvus else [])]:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(one, (name, folder, args.vectors, args.dim))
            print(
                f"{name:12} {found['build']:9.1f} {found['recall_at_1']:9.4f} "
                f"{found['queries_per_second']:10,.0f} {found['peak']:9,.0f} {found['size']:9,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
