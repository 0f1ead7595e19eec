"""Loading pretrained weights: all of them, or an error that says which do not fit."""

import re
from collections.abc import Collection, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dml.errors import UserError


class Published(NamedTuple):
    """A network's published ImageNet weights.

    Attributes:
        url: where they are; the file's name ends in the beginning of its SHA-256. None where there are none.
        surplus: keys of a full checkpoint that the feature map does not need: the classifier's.
    """

    url: str | None
    surplus: Collection[str] = ()


def load_weights(network: nn.Module, weights: str | None, published: Published) -> None:
    """Load every parameter and buffer of a network, in place, or none.

    Args:
        network: a feature extractor whose keys are those of the published file.
        weights: "imagenet" for the published weights, downloaded once; a file that `torch.save` wrote from a
            state dict; or None to leave the network as it is.
        published: where the ImageNet weights are, and which keys a file may have to spare.

    Raises:
        UserError: the weights cannot be had or read, or their keys or shapes are not the network's.
    """
    if weights is None:
        return
    state = download(published.url) if weights == "imagenet" else read(Path(weights).expanduser())
    source = f"model.weights={weights}"
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"{source} is not a state dict, names to tensors: save one with "
            "torch.save(network.state_dict(), file); a checkpoint of a whole run goes to ckpt_path."
        )
    # torchvision still publishes its DenseNets under older names: denselayer1.norm.1 for denselayer1.norm1.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", key): t for key, t in state.items()}
    if misfit := describe_misfit(network.state_dict(), state, published.surplus):
        raise UserError(
            f"{source} does not fit this network: {misfit}. Was it saved from another architecture?"
        )
    network.load_state_dict(
        {key: t for key, t in state.items() if key not in published.surplus}, strict=False
    )


def download(url: str | None) -> Any:
    """What `torch.save` put into the file at a URL, its hash checked; kept in torch's own cache."""
    if url is None:
        raise UserError("This network has no ImageNet weights: set model.weights to null or to a file.")
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError) as error:
        raise UserError(
            f"The ImageNet weights could not be downloaded from {url} ({error}): download the file elsewhere "
            "and set model.weights to its path."
        ) from error


def read(path: Path) -> Any:
    """What `torch.save` put into a file."""
    if not path.is_file():
        raise UserError(f"model.weights={path} is no file: set it to a file, to imagenet or to null.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file can fail in any way
        raise UserError(
            f"model.weights={path} cannot be read ({type(error).__name__}): it must be a state dict written "
            "by torch.save."
        ) from error


def describe_misfit(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], surplus: Collection[str]
) -> str | None:
    """What keeps one state dict from standing in for another, or None where nothing does.

    Batch norm's counters of batches are not asked for: they change no output, and older files have none.
    """
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    extra = [key for key in found if key not in wanted and key not in surplus]
    misshapen = [
        f"{key} {tuple(found[key].shape)} for {tuple(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    complaints = {"missing": missing, "surplus": extra, "of another shape": misshapen}
    return (
        "; ".join(f"{len(keys)} {kind}: {first(keys)}" for kind, keys in complaints.items() if keys) or None
    )


def first(keys: Sequence[str], count: int = 3) -> str:
    """The first few keys."""
    return ", ".join(keys[:count]) + (", …" if len(keys) > count else "")
