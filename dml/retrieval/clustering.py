"""Normalised mutual information of classes and clusters."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml.retrieval.similarity import as_embeddings


@torch.no_grad()
def nmi(
    embeddings: Float[Tensor, "N D"], labels: Int[Tensor, "N"], seed: int = 0, iterations: int = 20
) -> float:
    """Normalised mutual information of the classes and as many k-means clusters, in [0, 1].

        NMI = 2 I(class; cluster) / (H(class) + H(cluster))

    k-means is FAISS's, on all points, from one random start; the ratio is scikit-learn's, by default over
    the arithmetic mean of the entropies. It varies with the seed: compare several before believing a gain.

    Args:
        embeddings: (N, D), expected L2-normalised.
        labels: (N,) with C different classes, and so C clusters.
        seed: of the first centroids; the same seed, machine and number of threads give the same figure.
        iterations: of k-means.

    Raises:
        UserError: an embedding holds a NaN or an infinity.
    """
    import faiss  # lazily: its threads must not start in a process that goes on to fork
    from sklearn.metrics import normalized_mutual_info_score

    z_ND = as_embeddings(embeddings, "clustered").cpu().numpy()
    clusters = len(labels.unique())
    # Without the limits FAISS warns of small clusters and drops points of large ones.
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": len(z_ND)}
    kmeans = faiss.Kmeans(z_ND.shape[1], clusters, niter=iterations, seed=seed, **limits)
    kmeans.train(z_ND)
    cluster_N1 = kmeans.index.search(z_ND, 1)[1]
    return float(normalized_mutual_info_score(labels.cpu().numpy(), cluster_N1[:, 0]))
