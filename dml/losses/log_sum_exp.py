"""Logarithms of sums of exponentials over the pairs of a row, exact and safe at both ends."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F


class _MaskedLogSumExp(torch.autograd.Function):
    """log(c + Σ exp(x)) over the masked entries of a row, c being 1 or 0.

    The exponentials of the forward pass are kept: divided by their sum they are the gradient.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x_QR: Tensor, mask_QR: Tensor, plus_one: bool) -> Tensor:
        e_QR = torch.where(mask_QR, x_QR, -torch.inf)
        # The largest exponent is taken out; the 1 has exponent 0, and a finite floor keeps −inf − −inf away.
        top_Q1 = e_QR.amax(dim=1, keepdim=True).clamp_min_(0.0 if plus_one else torch.finfo(x_QR.dtype).min)
        e_QR = e_QR.sub_(top_Q1).exp_()
        sum_Q1 = e_QR.sum(dim=1, keepdim=True)
        if plus_one:
            sum_Q1 += torch.exp(-top_Q1)
        ctx.save_for_backward(e_QR, sum_Q1)
        return (sum_Q1.log() + top_Q1).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_Q: Tensor) -> tuple[Tensor, None, None]:
        e_QR, sum_Q1 = ctx.saved_tensors  # type: ignore[attr-defined]
        # Only an empty row has a sum of zero; its gradient is 0, not 0/0.
        scale_Q1 = torch.where(sum_Q1 > 0, grad_Q[:, None] / sum_Q1, 0.0)
        return e_QR * scale_Q1, None, None


def log_sum_exp(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "Q"]:
    """log Σ exp(x) over the masked entries of each row; −inf, with gradient zero, for an empty row."""
    return _MaskedLogSumExp.apply(x, mask, False)


def log_one_plus_sum_exp(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "Q"]:
    """log(1 + Σ exp(x)) over the masked entries of each row; 0 for an empty row."""
    return _MaskedLogSumExp.apply(x, mask, True)


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(1 + exp(x)) without the jump that `F.softplus` has where it turns linear, at 20."""
    return -F.logsigmoid(-x)
