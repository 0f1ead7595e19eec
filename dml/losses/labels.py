"""Checks of labels that would otherwise broadcast, or read another class's parameters, silently."""

import torch
from jaxtyping import Int
from torch import Tensor

from dml.errors import UserError


def check_label_each(name: str, labels: Tensor, count: int) -> None:
    """Raises ValueError unless `labels` holds one integer for each of `count` embeddings."""
    if labels.shape != (count,) or labels.is_floating_point():
        raise ValueError(
            f"{name} must be one whole number for each of {count} embeddings, "
            f"not {labels.dtype} of shape {tuple(labels.shape)}."
        )


def check_num_classes(num_classes: int) -> None:
    """Raises UserError unless `num_classes` is at least 1."""
    if num_classes < 1:
        raise UserError(f"loss.num_classes={num_classes} must be at least 1.")


def check_classes(labels: Int[Tensor, "N"], num_classes: int) -> None:
    """Raises UserError unless every label is among 0 … C − 1, with C = `num_classes`.

    The check synchronises with the GPU once. Without it, a label out of range would abort the process on a GPU, and
    a negative label would index a class from the end.
    """
    smallest, largest = torch.stack(labels.aminmax()).tolist()
    if smallest < 0 or largest >= num_classes:
        wrong = smallest if smallest < 0 else largest
        raise UserError(
            f"Label {wrong} is not among the {num_classes} classes of the loss: labels must be 0 to "
            f"{num_classes - 1}, or loss.num_classes larger."
        )
