"""Deep metric learning with the multi-similarity loss and General Pair Weighting, trained and evaluated exactly.

embedder = dml.load("outputs/…/checkpoints/best.ckpt")
z = embedder.embed(["a.jpg", "b.jpg"])  # (2, D), float32, of length 1
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dml.use.embedding import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module 'dml' has no attribute {name!r}")
    from dml.use.embedding import load  # imports torch, which the command line does without

    return load
