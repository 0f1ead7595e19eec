"""Whether embeddings tell images apart at all, or training has collapsed or diverged."""

import torch
from jaxtyping import Float
from torch import Tensor

POINT, CONE, FLAT = 1.001, 1.2, 2.0
SAMPLE = 1000


def is_collapsed(z_ND: Float[Tensor, "N D"]) -> bool:
    """Whether embeddings are not finite, one point (or two opposite ones), or a narrow cone of almost one direction.

    Measured by participation ratios: of the Gram matrix (1 is a line through the origin; 1.2 a mean cosine of about
    0.9) and, within a cone, of the embeddings around their mean. On digits a learning rate of 1,000 and more ends at
    1.02–1.14 and 1.6–1.8; a healthy run passes 1.1 too, but around the mean it has 11 and more.

    Args:
        z_ND: embeddings of any length; of more than 1,000, that many spread evenly are looked at.
    """
    even = torch.linspace(0, len(z_ND) - 1, min(len(z_ND), SAMPLE)).long()
    z_ND = torch.nn.functional.normalize(z_ND[even.to(z_ND.device)].cpu().double(), dim=1)
    if not z_ND.isfinite().all() or not z_ND.any():
        return True
    around_zero, around_mean = participation_ratio(z_ND), participation_ratio(z_ND - z_ND.mean(dim=0))
    return around_zero < POINT or (around_zero < CONE and around_mean < FLAT)


def participation_ratio(x_ND: Float[Tensor, "N D"]) -> float:
    """(Σλ)² / Σλ² of the eigenvalues λ of xᵀx: from 1 (one direction) to the lesser of N and D (spread evenly)."""
    gram_NN = x_ND @ x_ND.T
    return float(gram_NN.trace() ** 2 / gram_NN.square().sum())
