"""Cosine similarities with gradients in as few passes as they need."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class _Normalize(torch.autograd.Function):
    """x / ‖x‖, whose gradient is what is left of the incoming one across x, over ‖x‖."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_ND: Tensor) -> Tensor:
        norm_N1 = torch.linalg.vector_norm(x_ND, dim=1, keepdim=True).clamp_min_(1e-12)
        z_ND = x_ND / norm_N1
        ctx.save_for_backward(z_ND, norm_N1)
        return z_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_ND: Tensor) -> Tensor:
        z_ND, norm_N1 = ctx.saved_tensors  # type: ignore[attr-defined]
        along_N1 = (z_ND * grad_ND).sum(dim=1, keepdim=True)
        return torch.addcmul(grad_ND, z_ND, along_N1, value=-1).div_(norm_N1)


class _Product(torch.autograd.Function):
    """z·rᵀ, or z·zᵀ with one matrix product in backward where two independent factors take two."""

    @staticmethod
    def forward(ctx: FunctionCtx, z_QD: Tensor, r_RD: Tensor | None) -> Tensor:
        ctx.save_for_backward(z_QD, r_RD)  # type: ignore[arg-type]
        return z_QD @ (z_QD if r_RD is None else r_RD).T

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_QR: Tensor) -> tuple[Tensor | None, Tensor | None]:
        z_QD, r_RD = ctx.saved_tensors  # type: ignore[attr-defined]
        z_needed, r_needed = ctx.needs_input_grad  # type: ignore[attr-defined]
        # Whoever calls backward inside autocast must not get products in half precision.
        with torch.autocast(grad_QR.device.type, enabled=False):
            if r_RD is None:
                return (grad_QR + grad_QR.T) @ z_QD, None
            return grad_QR @ r_RD if z_needed else None, grad_QR.T @ z_QD if r_needed else None


def normalize(embeddings: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """L2-normalised embeddings in float32, or float64 where they came so; a zero vector stays zero."""
    return _Normalize.apply(embeddings if embeddings.dtype == torch.float64 else embeddings.float())


def cosine_similarity(
    z: Float[Tensor, "Q D"], references: Float[Tensor, "R D"] | None = None
) -> Float[Tensor, "Q R"]:
    """(Q, R) dot products of normalised embeddings with normalised references, or with themselves."""
    if references is not None:
        # Parameters such as proxies stay in float32 when embeddings come in float64.
        wide = torch.promote_types(z.dtype, references.dtype)
        z, references = z.to(wide), references.to(wide)
    return _Product.apply(z, references)
