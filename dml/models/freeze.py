"""Which parameters of an embedder keep their values: those of its backbone, or of the backbone's first stages."""

import re
from itertools import chain, groupby
from typing import Literal

from torch import nn

from dml.errors import UserError

# Of a parameter's name, what comes up to the first number: features.layer1, features.blocks.0, inception_4a.
NUMBERED = re.compile(r"\D*\d+[a-z]?")


def stages(embedder: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of the backbone, which are all but those under `head`, by stage, in the network's own order.

    A stage is what shares a name up to its first number, such as `layer1`, `features.3`, `blocks.0` or `inception_4a`.
    Norms, and parameters without a number, belong to the stage before them, the first ones to the first stage. So a
    ResNet has five stages (`conv1`, `layer1` … `layer4`), EfficientNet-Lite0 eight (stem, `blocks.0` … `blocks.6`),
    BN-Inception twelve (`conv1`, `conv2`, `inception_3a` … `inception_5b`) and a ViT of twelve blocks thirteen.
    """
    named = [item for item in embedder.named_parameters() if not item[0].startswith("head.")]
    found: list[list[nn.Parameter]] = []
    for number, group in groupby(named, key=lambda item: NUMBERED.findall(item[0])[:1]):
        parameters = [parameter for _, parameter in group]
        if found and (not number or all(parameter.ndim < 2 for parameter in parameters)):
            found[-1] += parameters
        else:
            found.append(parameters)
    return found


def freeze(embedder: nn.Module, what: Literal["backbone"] | int | None) -> None:
    """Stop training a part of an embedder, in place.

    The part's batch norms keep their running statistics and normalise with them (`Embedder.train`); dropout goes on.

    Args:
        embedder: its parameters under `head` belong to the head, all others to the backbone.
        what: "backbone"; a number of stages, ≥ 1, counted from the images; None for nothing.

    Raises:
        UserError: the backbone has fewer stages.
    """
    if what is None:
        return
    all_stages = stages(embedder)
    number = len(all_stages) if what == "backbone" else int(what)
    if number > len(all_stages):
        raise UserError(
            f"model.freeze={what} is more than the {len(all_stages)} stages of this network: give a smaller number, "
            "or backbone for all of them."
        )
    for parameter in chain.from_iterable(all_stages[:number]):
        parameter.requires_grad_(False)
    embedder.train(embedder.training)
