"""What a report shows of embeddings: a sample, histograms of similarity, a map."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits
from torch import Tensor

SAMPLE = 2000  # images in the map and the histograms
PER_CLASS = 8  # images of a class in the sample, if it has so many: without positives there is nothing to see
BINS = 60


def sample(labels_N: np.ndarray, at_most: int = SAMPLE, per_class: int = PER_CLASS) -> np.ndarray:
    """Positions of at most so many images, spread evenly over the classes and, within a class, over its images.

    Of very many classes some are left out, so that the others have `per_class` images and with them positives.
    """
    if len(labels_N) <= at_most:
        return np.arange(len(labels_N))
    classes = np.unique(labels_N)
    each = max(at_most // len(classes), per_class)
    kept = classes[_spread(len(classes), at_most // each)]
    of_class = (np.flatnonzero(labels_N == c) for c in kept)
    return np.sort(np.concatenate([index[_spread(len(index), each)] for index in of_class]))


def _spread(size: int, at_most: int) -> np.ndarray:
    return np.linspace(0, size - 1, min(size, at_most)).round().astype(int)


def similarity_histogram(z_MD: Float[Tensor, "M D"], labels_M: Int[Tensor, "M"]) -> dict[str, Any]:
    """Shares of the similarities of positive and of negative pairs in equal bins, their number and their deciles.

    The embeddings are of length 1.
    """
    S_MM = (z_MD @ z_MD.T).clamp(-1, 1)
    upper_MM = torch.ones_like(S_MM, dtype=torch.bool).triu(1)
    same_MM = labels_M[:, None] == labels_M
    kinds = {"positive": S_MM[upper_MM & same_MM].numpy(), "negative": S_MM[upper_MM & ~same_MM].numpy()}
    lowest = min((float(s.min()) for s in kinds.values() if len(s)), default=-1.0)
    edges = np.linspace(np.floor(lowest * 10 - 1e-9) / 10, 1, BINS + 1)
    content: dict[str, Any] = {"edges": edges.tolist(), "images": len(z_MD)}
    for kind, s in kinds.items():
        count = np.histogram(s, edges)[0]
        content[kind] = (count / max(len(s), 1)).tolist()
        content[f"{kind}_pairs"] = len(s)
        content[f"{kind}_deciles"] = np.quantile(s, np.linspace(0, 1, 11)).tolist() if len(s) else None
    content["overlap"] = float(np.minimum(content["positive"], content["negative"]).sum())
    return content


def map_method() -> str:
    """What the map is made with: UMAP where it is installed."""
    return "UMAP" if find_spec("umap") else "t-SNE"


def project(z_MD: np.ndarray, seed: int) -> np.ndarray:
    """The embeddings in two dimensions, (M, 2) within [0, 1].

    Args:
        z_MD: (M, D) of length 1, where Euclidean distance orders pairs as cosine similarity does.
        seed: of the method.
    """
    if map_method() == "UMAP":
        from umap import UMAP

        umap = UMAP(n_neighbors=min(15, len(z_MD) - 1), init="pca", random_state=seed, n_jobs=1)
        x_M2 = umap.fit_transform(z_MD.astype(np.float32))
    else:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(z_MD) - 1) / 3)
        # One thread: several wait for one another at each of many small steps, and the map would not repeat.
        with threadpool_limits(1):
            tsne = TSNE(init="pca", perplexity=perplexity, max_iter=500, random_state=seed)
            x_M2 = tsne.fit_transform(z_MD.astype(np.float32))
    low = x_M2.min(axis=0)
    return (x_M2 - low) / max(float((x_M2.max(axis=0) - low).max()), 1e-9)
