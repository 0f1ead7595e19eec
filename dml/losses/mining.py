"""Pair mining: which pairs of a row count."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import Pairs


def relative_mining(similarity: Float[Tensor, "Q R"], pairs: Pairs, epsilon: float) -> Pairs:
    """Pairs that are hard relative to the anchor's own pairs of the other kind.

        negative kept:  S_ij > min over positives k of S_ik − ε
        positive kept:  S_ij < max over negatives k of S_ik + ε

    An anchor keeps pairs of both kinds or none.
    Source: Wang et al., CVPR 2019, section 4.1, equations 11 and 12.

    Args:
        similarity: (Q, R) cosine similarities.
        pairs: the candidates.
        epsilon: margin ε in similarity, usually 0.1; larger keeps more pairs.
    """
    # Mining chooses pairs; no gradient flows through the choice.
    S_QR = similarity.detach()
    # Both comparisons use the same rounded S + ε, so one kind survives exactly when the other does.
    raised_QR = S_QR + epsilon
    hardest_positive_Q1 = torch.where(pairs.positive, S_QR, torch.inf).amin(dim=1, keepdim=True)
    hardest_negative_Q1 = torch.where(pairs.negative, raised_QR, -torch.inf).amax(dim=1, keepdim=True)
    return pairs._replace(
        positive=pairs.positive & (hardest_negative_Q1 > S_QR),
        negative=pairs.negative & (raised_QR > hardest_positive_Q1),
    )
