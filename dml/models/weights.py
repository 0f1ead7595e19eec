"""Loads pretrained weights: all of them, or an error that names those that do not fit."""

import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dml.errors import Note, UserError


class Published(NamedTuple):
    """A network's published ImageNet weights.

    Attributes:
        url: address of the file, whose name ends with the first digits of its SHA-256; None if there is no file.
        surplus: keys of the file that the feature extractor does not use, those of the classifier.
    """

    url: str | None
    surplus: Collection[str] = ()


def load_weights(
    network: nn.Module, weights: str | None, published: Published, embedder: nn.Module | None = None
) -> None:
    """Load all parameters and buffers of a network in place, or none of them.

    Args:
        network: a feature extractor with the keys of the published file.
        weights: "imagenet" for the published weights, downloaded once; a file with a state dict written by
            `torch.save`; a checkpoint of `dml.train`, for all of `embedder`; None to leave the network as it is.
        published: address of the ImageNet weights, and the keys that a file may have in addition.
        embedder: the embedder on this network, for a checkpoint.

    Raises:
        UserError: the weights cannot be downloaded or read, or their keys or shapes are not those of the network.
    """
    if weights is None:
        return
    state = download(published.url) if weights == "imagenet" else read(Path(weights).expanduser())
    source = f"model.weights={weights}"
    if embedder is not None and isinstance(state, dict) and isinstance(state.get("config"), dict):
        load_run(embedder, state.get("state_dict"), source)
        return
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"{source} is not a state dict (names to tensors): save one with "
            "torch.save(network.state_dict(), file), or give a checkpoint of dml.train; to resume a run, give it as "
            "ckpt_path."
        )
    # torchvision's DenseNet files still have older key names: denselayer1.norm.1 for denselayer1.norm1.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", key): t for key, t in state.items()}
    if misfit := describe_misfit(network.state_dict(), state, published.surplus):
        raise UserError(
            f"{source} does not fit this network: {misfit}. Was it saved from another architecture?"
        )
    network.load_state_dict(
        {key: t for key, t in state.items() if key not in published.surplus}, strict=False
    )


def load_run(embedder: nn.Module, state: Any, source: str) -> None:
    """Load an embedder from a run's weights; a head of another shape starts anew, with a note.

    Args:
        embedder: changed in place, as a whole or not at all.
        state: state dict of the run's module.
        source: where it is from, for messages.

    Raises:
        UserError: the keys or shapes are not those of the embedder.
    """
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{source} is not a checkpoint written by dml.train.")
    found = {key.removeprefix("embedder."): t for key, t in state.items() if key.startswith("embedder.")}
    wanted = embedder.state_dict()
    heads = [tuple(s["head.weight"].shape) if "head.weight" in s else None for s in (found, wanted)]
    if heads[0] != heads[1]:
        found, wanted = (
            {key: t for key, t in s.items() if not key.startswith("head.")} for s in (found, wanted)
        )
    if misfit := describe_misfit(wanted, found, ()):
        raise UserError(f"{source} does not fit this model: {misfit}. It is a run with another model=….")
    if heads[0] != heads[1]:
        was, now = (
            "no head" if shape is None else f"a head of {'×'.join(map(str, shape))}" for shape in heads
        )
        anew = "it is left out" if heads[1] is None else "it starts anew"
        warnings.warn(f"{source} has {was}, and this model {now}: {anew}.", Note, stacklevel=2)
    embedder.load_state_dict(found, strict=False)


def download(url: str | None) -> Any:
    """The content of a `torch.save` file at a URL, checked by its hash and cached by torch."""
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
    """The content of a `torch.save` file."""
    if not path.is_file():
        raise UserError(f"model.weights={path} is not a file: set it to a file, to imagenet or to null.")
    try:
        if zipfile.is_zipfile(path) and (damaged := zipfile.ZipFile(path).testzip()):
            raise zipfile.BadZipFile(damaged)  # torch does not look at the checksums that it writes
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file can fail in any way
        raise UserError(
            f"model.weights={path} cannot be read ({type(error).__name__}): it must be a state dict written "
            "by torch.save."
        ) from error


def describe_misfit(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], surplus: Collection[str]
) -> str:
    """Why a state dict does not fit a network's; empty if it fits.

    Batch norm's `num_batches_tracked` may be missing: it does not affect the output, and older files lack it.
    """
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    extra = [key for key in found if key not in wanted and key not in surplus]
    misshapen = [
        f"{key} {tuple(found[key].shape)} for {tuple(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    complaints = {"missing": missing, "surplus": extra, "of another shape": misshapen}
    return "; ".join(
        f"{len(keys)} {kind}: {', '.join(keys[:3])}" + (", …" if len(keys) > 3 else "")
        for kind, keys in complaints.items()
        if keys
    )
