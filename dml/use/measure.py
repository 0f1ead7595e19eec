"""What an approximate index misses, and how fast it is."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int

from dml.use.parts import Parts

QUERIES = 1000
EXACT = 1e-5  # float32 sums of a product in another order differ by less
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def measure(search: Search, parts: Parts, ids_N: Int[np.ndarray, "N"]) -> dict[str, Any]:
    """Recall@1 of a search against an exact one, with up to 1,000 of its own vectors as queries, and its speed.

    A query itself is left out of what is found. It counts as right if what is nearest of the rest is as similar as the
    truly nearest one. The speed is that of all queries at once for their 10 nearest.

    Args:
        search: (Q, D) queries, k → numbers (Q, k), −1 where there is none, and similarities.
        parts: the vectors.
        ids_N: (N,) numbers of those that are searched, rising.

    Returns:
        `recall_at_1`, None for a single vector, `queries`, `queries_per_second`.
    """
    chosen = np.random.default_rng(0).permutation(len(ids_N))[:QUERIES]
    query_Q = np.sort(ids_N[chosen])
    z_QD = parts.vectors(query_Q)
    began = time.perf_counter()
    found_QK, _ = search(z_QD, 10)
    speed = len(query_Q) / (time.perf_counter() - began)
    figures = {"recall_at_1": None, "queries": len(query_Q), "queries_per_second": round(speed, 1)}
    if len(ids_N) < 2:
        return figures
    missed_Q = _missed(z_QD, query_Q, _first_other(found_QK, query_Q), parts, ids_N)
    return figures | {"recall_at_1": round(1 - float(missed_Q.mean()), 4)}


def _first_other(found_QK: np.ndarray, query_Q: np.ndarray) -> np.ndarray:
    """The first of each row that is not the query itself; −1 where there is none."""
    other_QK = (found_QK != query_Q[:, None]) & (found_QK >= 0)
    first_Q = found_QK[np.arange(len(query_Q)), other_QK.argmax(axis=1)]
    return np.where(other_QK.any(axis=1), first_Q, -1)


def _missed(
    z_QD: np.ndarray, query_Q: np.ndarray, found_Q: np.ndarray, parts: Parts, ids_N: np.ndarray
) -> np.ndarray:
    """Whether any vector but the query is more similar to it than what was found, by comparing with all."""
    found_S_Q, best_S_Q = np.full((2, len(query_Q)), -np.inf, dtype=np.float32)
    for ids_B, z_BD in parts.of(ids_N):
        S_QB = z_QD @ z_BD.T
        is_found_QB, is_other_QB = found_Q[:, None] == ids_B, query_Q[:, None] != ids_B
        found_S_Q = np.maximum(found_S_Q, S_QB.max(axis=1, where=is_found_QB, initial=-np.inf))
        best_S_Q = np.maximum(best_S_Q, S_QB.max(axis=1, where=is_other_QB, initial=-np.inf))
    return best_S_Q - EXACT > found_S_Q
