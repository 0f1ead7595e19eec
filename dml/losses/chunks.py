"""The mean over a loss's rows a few anchors at a time, so that no similarity matrix is ever whole in memory."""

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

# Similarities at a time under "auto". From 32 MiB on, glibc asks the system for every block anew and gives it back
# at once, which takes longer than the arithmetic.
AUTO_BYTES = 16 * 2**20


def check_chunk(chunk: object) -> None:
    """Raises UserError unless it is a `Chunk`."""
    if not (chunk is None or chunk == "auto" or (isinstance(chunk, int) and chunk >= 1)):
        raise UserError(
            f"loss.chunk={chunk} must be at least 1, or auto for as many anchors as are good for memory, or null "
            "for all at once."
        )


def anchors_at_a_time(chunk: Chunk, anchors: int, references: int, itemsize: int) -> int:
    """How many anchors have their similarities in memory at a time, from 1 to all.

    Args:
        chunk: so many; "auto" for as many as have at most `AUTO_BYTES` of similarities; None for all.
        anchors, references: how many there are.
        itemsize: bytes of one similarity.
    """
    check_chunk(chunk)
    if chunk == "auto":
        chunk = max(1, AUTO_BYTES // max(1, references * itemsize))
    return anchors if chunk is None else min(chunk, anchors)


class _Side:
    """Anchors or references at unit length, and the sum so far of the gradient with respect to them."""

    def __init__(self, x_ND: Tensor) -> None:
        self.unit_ND, self.norm_N1 = normalize(x_ND)
        self.sum_ND = torch.zeros_like(self.unit_ND) if x_ND.requires_grad else None

    def add(self, part: slice, grad_cM: Tensor, unit_MD: Tensor) -> None:
        """Add to the rows in `part` what their similarities with others bring: ∂L/∂S · u."""
        if self.sum_ND is not None:
            self.sum_ND[part].addmm_(grad_cM, unit_MD)

    def gradient(self) -> Tensor | None:
        """With respect to the vectors as they came."""
        return None if self.sum_ND is None else normalize_backward(self.sum_ND, self.unit_ND, self.norm_N1)


class _Scaled(torch.autograd.Function):
    """A value whose gradients are known already: backward has only to scale them."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, gradients: list[Tensor | None], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)  # type: ignore[arg-type]
        return value.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        # The gradients would pass for constants, which `once_differentiable` only notices where `grad` is none.
        if torch.is_grad_enabled():
            raise RuntimeError("A loss is not differentiable twice: take its gradient without create_graph.")
        saved = ctx.saved_tensors  # type: ignore[attr-defined]
        return None, None, *(None if gradient is None else grad * gradient for gradient in saved)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Of two gradients, None being that of what is not used."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


@torch.enable_grad()
def _with_gradients(
    rows: Rows, S_cR: Tensor, part: slice, count: int, parameters: Sequence[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """A chunk's losses, and the gradients of their sum over `count`: of the similarities and of the parameters."""
    loss_c = rows(S_cR.requires_grad_(), part)
    grad_cR, *grads = torch.autograd.grad(loss_c.sum() / count, [S_cR, *parameters], allow_unused=True)
    return loss_c.detach(), grad_cR, list(grads)


def mean_in_chunks(
    rows: Rows,
    chunk: int,
    anchors: Float[Tensor, "Q D"],
    references: Float[Tensor, "R D"] | None,
    parameters: Sequence[Tensor],
) -> Float[Tensor, ""]:
    """Mean of `rows` over all anchors, computed for `chunk` of them at a time together with its gradient.

    The gradient of a mean is known up to a factor before backward begins. So a chunk gives its losses and their
    gradient at once and is forgotten: nothing is computed twice, no random draw is repeated, and memory is that of
    `chunk` × R similarities beside buffers as large as the inputs. An anchor's row depends on no other anchor's,
    which is why this is exact but for rounding.

    Args:
        rows: losses of some of the anchors from their cosine similarities.
        chunk: anchors at a time, at least 1.
        anchors, references: of one dtype, normalised here; None compares the anchors with themselves.
        parameters: the tensors that `rows` learns; any other that it reads gets no gradient.
    """
    inputs = [anchors, *([] if references is None else [references]), *parameters]
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    with torch.no_grad():
        own = _Side(anchors)
        others = own if references is None else _Side(references)
        loss_Q = anchors.new_empty(len(anchors))
        learnt: list[Tensor | None] = [None] * len(parameters)
        for part in (slice(start, start + chunk) for start in range(0, len(anchors), chunk)):
            S_cR = own.unit_ND[part] @ others.unit_ND.T
            if not wanted:
                loss_Q[part] = rows(S_cR, part)
                continue
            loss_Q[part], grad_cR, grads = _with_gradients(rows, S_cR, part, len(anchors), parameters)
            own.add(part, grad_cR, others.unit_ND)
            others.add(slice(None), grad_cR.T, own.unit_ND[part])
            learnt = [_sum(*pair) for pair in zip(learnt, grads, strict=True)]
        if not wanted:
            return loss_Q.mean()
        sides = [own] if references is None else [own, others]
        gradients = [*(side.gradient() for side in sides), *learnt]
    return _Scaled.apply(loss_Q.mean(), gradients, *inputs)
