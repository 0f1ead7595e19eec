"""General Pair Weighting: the pair weights of any loss."""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.pair_loss import PairLoss, Pairs


@torch.enable_grad()
def pair_weights(loss: PairLoss, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q R"]:
    """Weight of each pair in its anchor's loss, w_ij = |∂ℓ_i/∂S_ij|, by autograd; zero off the pairs.

    Source: Wang et al., CVPR 2019, section 3. In the mean over Q anchors the weights are 1/Q of these.

    Args:
        loss: any pair loss.
        similarity: (Q, R) cosine similarities.
        pairs: which entries are positive and which negative.
    """
    S_QR = similarity.detach().requires_grad_()
    # A row depends on no other, so the gradient of the sum holds the gradient of each.
    (gradient_QR,) = torch.autograd.grad(loss.per_anchor(S_QR, pairs).sum(), S_QR)
    return gradient_QR.abs()
