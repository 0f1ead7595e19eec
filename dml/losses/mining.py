"""Pair mining: which pairs of a row count."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import Pairs


def relative_mining(similarity: Float[Tensor, "Q R"], pairs: Pairs, epsilon: float) -> Pairs:
    """Pairs that are hard relative to the anchor's own pairs of the other kind.

        negative kept:  S_ij > min over positives k of S_ik − ε
        positive kept:  S_ij < max over negatives k of S_ik + ε

    Source: Wang et al., CVPR 2019, section 4.1, equations 11 and 12. An anchor keeps pairs of both kinds or none.

    Args:
        similarity: (Q, R) cosine similarities.
        pairs: the candidates.
        epsilon: margin ε in similarity, usually 0.1; larger keeps more pairs.
    """
    # Mining chooses pairs; no gradient flows through the choice.
    S_QR = similarity.detach()
    hardest_positive_Q1 = S_QR.masked_fill(~pairs.positive, torch.inf).amin(dim=1, keepdim=True)
    hardest_negative_Q1 = S_QR.masked_fill(~pairs.negative, -torch.inf).amax(dim=1, keepdim=True)
    negative_QR = pairs.negative & (hardest_positive_Q1 - epsilon < S_QR)
    positive_QR = pairs.positive & (hardest_negative_Q1 + epsilon > S_QR)
    # In exact arithmetic one kind survives exactly when the other does; rounding at a tie may part them.
    both_Q1 = positive_QR.any(dim=1, keepdim=True) & negative_QR.any(dim=1, keepdim=True)
    return pairs._replace(positive=positive_QR & both_Q1, negative=negative_QR & both_Q1)
