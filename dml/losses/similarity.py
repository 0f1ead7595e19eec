"""Cosine similarities, with a backward pass that makes few passes over memory, and distances from them."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def normalize(x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N 1"]]:
    """x / ‖x‖ and ‖x‖; a zero vector stays zero."""
    norm_N1 = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12)
    return x / norm_N1, norm_N1


def normalize_backward(
    grad: Float[Tensor, "N D"], z: Float[Tensor, "N D"], norm: Float[Tensor, "N 1"]
) -> Float[Tensor, "N D"]:
    """Gradient with respect to x of z = x / ‖x‖: the part of `grad` orthogonal to z, over ‖x‖."""
    along_N1 = (z * grad).sum(dim=1, keepdim=True)
    return torch.addcmul(grad, z, along_N1, value=-1).div_(norm)


class _CosineSimilarity(torch.autograd.Function):
    """Cosines of x with r, or with itself; with itself, backward needs one matrix product instead of two."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_QD: Tensor, r_RD: Tensor | None) -> Tensor:
        z_QD, norm_Q1 = normalize(x_QD)
        if r_RD is None:
            ctx.save_for_backward(z_QD, norm_Q1)
            return z_QD @ z_QD.T
        r_RD, norm_R1 = normalize(r_RD)
        ctx.save_for_backward(z_QD, norm_Q1, r_RD, norm_R1)
        return z_QD @ r_RD.T

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_QR: Tensor) -> tuple[Tensor | None, Tensor | None]:
        z_QD, norm_Q1, *references = ctx.saved_tensors  # type: ignore[attr-defined]
        x_needed, r_needed = ctx.needs_input_grad  # type: ignore[attr-defined]
        # Under autocast, a backward call would compute these products in half precision.
        with torch.autocast(grad_QR.device.type, enabled=False):
            if not references:
                return normalize_backward((grad_QR + grad_QR.T) @ z_QD, z_QD, norm_Q1), None
            r_RD, norm_R1 = references
            grad_x = normalize_backward(grad_QR @ r_RD, z_QD, norm_Q1) if x_needed else None
            grad_r = normalize_backward(grad_QR.T @ z_QD, r_RD, norm_R1) if r_needed else None
        return grad_x, grad_r


def euclidean_distance(similarity: Float[Tensor, "Q R"]) -> Float[Tensor, "Q R"]:
    """Euclidean distance of unit vectors, d = √(2 − 2S), in [0.001, 2].

    Below 0.001 float32 similarities cannot distinguish distances. There d is constant, and its gradient is
    zero instead of infinite.
    """
    return (2 - 2 * similarity).clamp_min(1e-6).sqrt()


def widened(
    x: Float[Tensor, "Q D"], references: Float[Tensor, "R D"] | None
) -> tuple[Float[Tensor, "Q D"], Float[Tensor, "R D"] | None]:
    """Both in float64 if either is float64, else in float32."""
    wide = x.dtype if references is None else torch.promote_types(x.dtype, references.dtype)
    wide = wide if wide == torch.float64 else torch.float32
    return x.to(wide), None if references is None else references.to(wide)


def cosine_similarity(
    x: Float[Tensor, "Q D"], references: Float[Tensor, "R D"] | None = None
) -> Float[Tensor, "Q R"]:
    """(Q, R) cosine similarities with the references, or of x with itself if there are none.

    The result is float64 if either input is float64, else float32. A zero vector has similarity 0 with all.

    Equal references may get similarities that differ in the last bits, because BLAS sums in an order that depends on
    shape and column; docs/decisions.md says why they are not made equal, as retrieval makes them.
    """
    return _CosineSimilarity.apply(*widened(x, references))
