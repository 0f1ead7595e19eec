"""The formats of an exported network: how each is written and read."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dml.errors import UserError

INPUT, OUTPUT = "images", "embeddings"
MAX_POOL = torch.ops.aten.adaptive_max_pool2d.default
Embed = Callable[[np.ndarray], np.ndarray]  # (B, C, H, W) to (B, D)


def exported(network: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """The network as a graph; of its input, the number of images is free."""
    return torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def adaptive_max_pool2d(maps: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """torch's adaptive_max_pool2d as slices, since ONNX has no such operator.

    The second result, the positions of the maxima, is all zeros: no embedding depends on them.
    """
    rows, columns = (
        [slice(i * side // bins, -(-(i + 1) * side // bins)) for i in range(bins)]
        for side, bins in zip(maps.shape[2:], size, strict=True)
    )
    pooled = [torch.stack([maps[:, :, row, column].amax((2, 3)) for column in columns], 2) for row in rows]
    maxima = torch.stack(pooled, 2)
    return maxima, torch.zeros_like(maxima, dtype=torch.int64)


def write_onnx(network: nn.Module, images: Tensor, file: Path) -> None:
    """Write an ONNX file without the exporter's notes on each node, which name files of this machine.

    Raises:
        UserError: ONNX cannot express the network.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        try:
            program = torch.onnx.export(
                exported(network, images).run_decompositions({MAX_POOL: adaptive_max_pool2d}),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(f"The network cannot be written as ONNX ({reason}): try format=pt2.") from error
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)
    program.save(str(file))


def read_onnx(file: Path) -> Embed:
    """The network of an ONNX file, run by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def write_pt2(network: nn.Module, images: Tensor, file: Path) -> None:
    """Write torch's exported program, likewise."""
    program = exported(network, images)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    with file.open("wb") as stream:
        torch.export.save(program, stream)


def read_pt2(file: Path) -> Embed:
    """The network of an exported program."""
    with file.open("rb") as stream:
        network = torch.export.load(stream).module()
    return lambda images: network(torch.from_numpy(images)).numpy()


class Format(NamedTuple):
    """One format.

    Attributes:
        packages: that it needs beside the package's own.
        write: from a network, an example (B ≥ 2, C, H, W) of its input and a file.
        read: from a file to a function of images.
    """

    packages: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, Path], None]
    read: Callable[[Path], Embed]


FORMATS = {
    "onnx": Format(("onnx", "onnxscript", "onnxruntime"), write_onnx, read_onnx),
    "pt2": Format((), write_pt2, read_pt2),
}
