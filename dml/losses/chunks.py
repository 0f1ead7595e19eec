"""The mean loss over anchors, computed in chunks so that the whole similarity matrix is never in memory."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from dml.errors import UserError
from dml.losses.similarity import normalize, normalize_backward

Chunk = int | Literal["auto"] | None
Rows = Callable[[Tensor, slice], Tensor]  # (c, R) similarities of the anchors in the slice → (c,) losses

# Size of a chunk's similarities under "auto". glibc maps every block of 32 MiB or more anew and unmaps it when it is
# freed, which takes longer than the arithmetic.
AUTO_BYTES = 16 * 2**20


def check_chunk(chunk: object) -> None:
    """Raises UserError unless `chunk` is a `Chunk`."""
    if not (chunk is None or chunk == "auto" or (isinstance(chunk, int) and chunk >= 1)):
        raise UserError(
            f"loss.chunk={chunk} must be at least 1, or auto for chunks of limited memory, or null for all anchors "
            "at once."
        )


def anchors_at_a_time(chunk: Chunk, anchors: int, references: int, itemsize: int) -> int:
    """Number of anchors in a chunk, from 1 to all.

    Args:
        chunk: this number; "auto" for as many as have at most `AUTO_BYTES` of similarities; None for all.
        anchors, references: Q and R.
        itemsize: bytes of one similarity.

    Raises:
        UserError: `chunk` is not a `Chunk`.
    """
    check_chunk(chunk)
    if chunk == "auto":
        chunk = max(1, AUTO_BYTES // max(1, references * itemsize))
    return anchors if chunk is None else min(chunk, anchors)


class _Side:
    """Normalised anchors or references, and the gradient with respect to them summed over chunks."""

    def __init__(self, x_ND: Tensor) -> None:
        self.unit_ND, self.norm_N1 = normalize(x_ND)
        self.sum_ND = torch.zeros_like(self.unit_ND) if x_ND.requires_grad else None

    def add(self, part: slice, grad_cM: Tensor, unit_MD: Tensor) -> None:
        """Add ∂L/∂S · u of one chunk to the gradient of the rows in `part`."""
        if self.sum_ND is not None:
            self.sum_ND[part].addmm_(grad_cM, unit_MD)

    def gradient(self) -> Tensor | None:
        """Gradient with respect to the vectors before normalisation; None where none is needed."""
        return None if self.sum_ND is None else normalize_backward(self.sum_ND, self.unit_ND, self.norm_N1)


class _Scaled(torch.autograd.Function):
    """A value whose gradients are already computed; backward scales them."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, gradients: list[Tensor | None], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)  # type: ignore[arg-type]
        return value.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Under create_graph the saved gradients would count as constants. `once_differentiable` raises only where
        # `grad` requires a gradient itself.
        if torch.is_grad_enabled():
            raise RuntimeError("A loss is not differentiable twice: take its gradient without create_graph.")
        saved = ctx.saved_tensors  # type: ignore[attr-defined]
        return None, None, *(None if gradient is None else grad * gradient for gradient in saved)


def mean_in_chunks(
    rows: Rows,
    chunk: int,
    anchors: Float[Tensor, "Q D"],
    references: Float[Tensor, "R D"] | None,
    parameters: Sequence[Tensor],
) -> Float[Tensor, ""]:
    """Mean of `rows` over all anchors, computed together with its gradient for `chunk` anchors at a time.

    The gradient of the mean is known up to a factor before backward begins. So a chunk's losses and gradient are
    computed at once and its similarities are freed. Nothing is computed twice and no random draw is repeated. The
    memory is `chunk` × R similarities plus buffers as large as the inputs. The result is exact up to rounding,
    because an anchor's row does not depend on other anchors.

    Args:
        rows: losses of a slice of the anchors from their cosine similarities.
        chunk: anchors at a time, at least 1.
        anchors: (Q, D), normalised here.
        references: (R, D) of the same dtype, normalised here; None compares the anchors with themselves.
        parameters: the learnt tensors that `rows` reads; other tensors get no gradient.
    """
    inputs = [anchors, *([] if references is None else [references]), *parameters]
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    with torch.no_grad():
        own = _Side(anchors)
        others = own if references is None else _Side(references)
        loss_Q = anchors.new_empty(len(anchors))
        learnt = [torch.zeros_like(parameter) for parameter in parameters]
        for part in (slice(start, start + chunk) for start in range(0, len(anchors), chunk)):
            S_cR = own.unit_ND[part] @ others.unit_ND.T
            if not wanted:
                loss_Q[part] = rows(S_cR, part)
                continue
            with torch.enable_grad():
                loss_c = rows(S_cR.requires_grad_(), part)
                share = loss_c.sum() / len(anchors)
            grad_cR, *grads = torch.autograd.grad(share, [S_cR, *parameters], materialize_grads=True)
            loss_Q[part] = loss_c
            own.add(part, grad_cR, others.unit_ND)
            others.add(slice(None), grad_cR.T, own.unit_ND[part])
            for total, grad in zip(learnt, grads, strict=True):
                total += grad
        if not wanted:
            return loss_Q.mean()
        sides = [own] if references is None else [own, others]
        gradients = [*(side.gradient() for side in sides), *learnt]
    return _Scaled.apply(loss_Q.mean(), gradients, *inputs)
