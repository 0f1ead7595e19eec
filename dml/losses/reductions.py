"""Reductions over the masked entries of each row, exact for extreme values and empty rows too."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F


class _MaskedLogSumExp(torch.autograd.Function):
    """log(c + Σ exp(s x)) / s over the masked entries of a row, c being 1 or 0.

    The forward pass keeps the exponentials; divided by their sum they are the gradient.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x_QR: Tensor, mask_QR: Tensor, sharpness: float, plus_one: bool) -> Tensor:
        e_QR = torch.where(mask_QR, x_QR, -torch.inf)
        # The largest exponent is factored out; that of the 1 is 0. The finite floor avoids −inf − (−inf).
        top_Q1 = e_QR.amax(dim=1, keepdim=True).clamp_min_(0.0 if plus_one else torch.finfo(x_QR.dtype).min)
        e_QR = e_QR.sub_(top_Q1).mul_(sharpness).exp_()
        sum_Q1 = e_QR.sum(dim=1, keepdim=True)
        if plus_one:
            sum_Q1 += torch.exp(-sharpness * top_Q1)
        ctx.save_for_backward(e_QR, sum_Q1)
        return (sum_Q1.log() / sharpness + top_Q1).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_Q: Tensor) -> tuple[Tensor, None, None, None]:
        e_QR, sum_Q1 = ctx.saved_tensors  # type: ignore[attr-defined]
        # The sum is at least exp(0), except in an empty row, whose gradient must be 0 and not 0/0.
        return e_QR * (grad_Q[:, None] / sum_Q1.clamp_min(1.0)), None, None, None


def log_sum_exp(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "Q"]:
    """log Σ exp(x) over the masked entries of each row; −inf, with gradient zero, for an empty row."""
    return _MaskedLogSumExp.apply(x, mask, 1.0, False)


def log_one_plus_sum_exp(
    x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"], sharpness: float = 1.0
) -> Float[Tensor, "Q"]:
    """1/s · log(1 + Σ exp(s x)) over the masked entries of each row; 0 for an empty row.

    A smooth maximum of 0 and the entries; it becomes the maximum as the sharpness s > 0 grows.
    """
    return _MaskedLogSumExp.apply(x, mask, sharpness, True)


def masked_sum(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "Q"]:
    """Sum of the masked entries of each row; 0 for an empty row."""
    return torch.where(mask, x, 0.0).sum(dim=1)


def masked_mean(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "Q"]:
    """Mean of the masked entries of each row; 0 for an empty row."""
    return masked_sum(x, mask) / mask.sum(dim=1).clamp_min(1)


def masked_softmax(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "Q R"]:
    """Softmax over the masked entries of each row, zero elsewhere, without gradient: for weights."""
    x_QR = x.detach()
    return torch.where(mask, torch.exp(x_QR - log_sum_exp(x_QR, mask)[:, None]), 0.0)


def masked_min(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "Q 1"]:
    """Smallest masked entry of each row, (Q, 1); +inf for an empty row."""
    return torch.where(mask, x, torch.inf).amin(dim=1, keepdim=True)


def masked_max(x: Float[Tensor, "Q R"], mask: Bool[Tensor, "Q R"]) -> Float[Tensor, "Q 1"]:
    """Largest masked entry of each row, (Q, 1); −inf for an empty row."""
    return torch.where(mask, x, -torch.inf).amax(dim=1, keepdim=True)


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(1 + exp(x)), without the jump of `F.softplus` at 20, where it becomes linear."""
    return -F.logsigmoid(-x)
