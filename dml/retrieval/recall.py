"""Recall@K alone: from FAISS's lists of neighbours, or from whole rows where the lists do not decide."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dml.retrieval.index import Neighbours, nearest
from dml.retrieval.metrics import QueryMetrics
from dml.retrieval.ranking import rank_positives
from dml.retrieval.similarity import as_embeddings

LONGEST_LIST = 32  # the largest K for which searching lists was measured to be no slower than whole rows


def has_positive(
    query_labels: Int[Tensor, "Q"], gallery_labels: Int[Tensor, "N"], self_index: Int[Tensor, "Q"] | None
) -> Bool[Tensor, "Q"]:
    """True for the queries with an image of their class in the gallery, themselves left out."""
    sorted_N = gallery_labels.sort().values
    end_Q = torch.searchsorted(sorted_N, query_labels, right=True)
    of_class_Q = end_Q - torch.searchsorted(sorted_N, query_labels)
    return of_class_Q > (0 if self_index is None else 1)


def largest_difference(
    query_QD: Float[Tensor, "Q D"], gallery_ND: Float[Tensor, "N D"]
) -> Float[Tensor, "Q"]:
    """Largest difference between two float32 computations of a query's similarities; (Q,) float64, on the CPU.

    Summed in any order, fused or not, a product of D terms errs by at most γ Σ|x_d y_d| ≤ γ ‖x‖‖y‖ with
    γ = D u / (1 − D u), u = eps / 2 (underflow aside); two such products differ by twice that. The factor 1.01 covers
    the denominator up to D = 100,000. Observed differences are a hundredth of this.
    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2002, §3.1.
    """
    sides = query_QD.cpu(), gallery_ND.cpu()
    norm_Q, norm_N = (torch.linalg.vector_norm(z, dim=1, dtype=torch.float64) for z in sides)
    return 1.01 * query_QD.shape[1] * torch.finfo(torch.float32).eps * norm_Q * norm_N.max()


def others_ahead_bounds(
    found: Neighbours, positive_QK: Bool[Tensor, "Q K"], difference_Q: Float[Tensor, "Q"]
) -> tuple[Int[Tensor, "Q"], Int[Tensor, "Q"]]:
    """Bounds, both (Q,), on `others_ahead` of queries with a positive: at least, and at most if below K + 1.

    Let p be the similarity of the best listed positive (−∞ without one) and t the last of the list. No unlisted image
    is above t, so in the whole row the most similar positive lies between p − δ and max(p, t) + δ. Another image,
    known to ±δ, is ahead of it if above max(p, t) + 2δ and behind it if below p − 2δ. If t is not behind, any number
    of unlisted images may be ahead: the upper bound is then K + 1.

    Args:
        found: neighbours without the query itself, on the CPU, because not every GPU has float64.
        positive_QK: which of them are of the query's class.
        difference_Q: δ, from `largest_difference`; with infinity or NaN nothing is certain.
    """
    T_QK, margin_Q1 = found.similarity_QK.double(), 2 * difference_Q[:, None]
    p_Q1 = T_QK.masked_fill(~positive_QK, -torch.inf).amax(dim=1, keepdim=True)
    surely_QK = torch.maximum(p_Q1, T_QK[:, -1:]) + margin_Q1 < T_QK
    perhaps_QK = ~(p_Q1 - margin_Q1 > T_QK)
    at_least_Q = (surely_QK & ~positive_QK).sum(dim=1)
    at_most_Q = (perhaps_QK & ~positive_QK).sum(dim=1)
    return at_least_Q, at_most_Q.masked_fill(perhaps_QK[:, -1], T_QK.shape[1] + 1)


@torch.no_grad()
def recall_in_lists(
    query_QD: Float[Tensor, "Q D"],
    query_labels: Int[Tensor, "Q"],
    gallery_ND: Float[Tensor, "N D"],
    gallery_labels: Int[Tensor, "N"],
    self_index: Int[Tensor, "Q"] | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> QueryMetrics:
    """`recall_at_K` of each query for every K of `ks`: exactly that of `rank_positives` and `query_metrics`.

    A query's list of max K + 1 neighbours from `nearest` decides, unless a comparison lies within
    `largest_difference`; then its whole row does. That is a few percent of healthy embeddings and all of collapsed
    ones. With K above `LONGEST_LIST`, or a gallery hardly longer than the list, whole rows decide everything. Time at
    N = 15,000 and D = 512, relative to the bare product: K = 10 1.06, 32 1.08, 100 1.20, 200 1.37, 1000 about 3;
    whole rows 1.12.

    Args:
        query_QD, query_labels, gallery_ND, gallery_labels, self_index: as in `rank_positives`.
        ks: each at least 1.

    Raises:
        ValueError: no K, or one that is not positive, or `self_index` does not fit the gallery.
        UserError: an embedding holds a NaN or an infinity.
    """
    if min(ks, default=0) < 1:
        raise ValueError(f"Recall@K needs at least one K, and each at least 1, not {list(ks)}.")
    query_QD, gallery_ND = as_embeddings(query_QD, "query"), as_embeddings(gallery_ND, "gallery")
    counted_Q = has_positive(query_labels, gallery_labels, self_index).cpu()
    ahead_Q, open_Q = torch.zeros_like(counted_Q, dtype=torch.long), torch.ones_like(counted_Q)
    if max(ks) <= LONGEST_LIST and max(ks) + 1 < len(gallery_ND):
        found = nearest(query_QD, gallery_ND, max(ks) + 1, self_index)
        positive_QK = (gallery_labels[found.index_QK] == query_labels[:, None]).cpu()
        found = Neighbours(*(field.cpu() for field in found))
        difference_Q = largest_difference(query_QD, gallery_ND)
        ahead_Q, at_most_Q = others_ahead_bounds(found, positive_QK, difference_Q)
        k_T = torch.tensor(sorted(ks))
        missed_Q, perhaps_missed_Q = (
            torch.searchsorted(k_T, n_Q, right=True) for n_Q in (ahead_Q, at_most_Q)
        )
        open_Q = counted_Q & (missed_Q != perhaps_missed_Q)  # a K lies between the bounds
        if self_index is not None:
            open_Q |= (gallery_labels[self_index] != query_labels).cpu()  # for rank_positives to refuse
    row_O = open_Q.nonzero().flatten().to(query_QD.device)
    if len(row_O):
        own_O = None if self_index is None else self_index[row_O]
        share = query_QD[row_O], query_labels[row_O]
        ahead_Q[open_Q] = rank_positives(*share, gallery_ND, gallery_labels, own_O).others_ahead
    return QueryMetrics(counted_Q, {f"recall_at_{k}": (ahead_Q < k).double() for k in ks})
