"""A checkpoint's network as ONNX or as torch's exported program, held against the checkpoint on real images."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from dml.config.check import valid
from dml.config.evaluation import checkpoint_file
from dml.data.dataset import collate
from dml.data.datasets.annotations import EXTENSIONS, files_below
from dml.errors import UserError
from dml.runs.failures import whole_file
from dml.runs.folder import set_aside
from dml.use.embedding import TrainedEmbedder, load
from dml.use.formats import FORMATS
from dml.use.model_card import NAME, write_card

IMAGES = 32
TOLERANCE = 1e-4


class Parity(NamedTuple):
    """How close an exported network is to its checkpoint.

    Attributes:
        images: number of images that both embedded, N.
        largest_difference: of any number of any embedding.
        same_nearest: images, of N, whose nearest image of the others is the same; one whose similarity under the
            checkpoint is within 1e-4 of the nearest one's counts as the same.
    """

    images: int
    largest_difference: float
    same_nearest: int

    @property
    def holds(self) -> bool:
        """Whether the embeddings are less than 1e-4 apart and all nearest images are the same."""
        return self.largest_difference < TOLERANCE and self.same_nearest == self.images


def parity(checkpoint: Float[np.ndarray, "N D"], exported: Float[np.ndarray, "N D"]) -> Parity:
    """Compare the embeddings of the same N ≥ 2 images."""
    S_NN, other_NN = checkpoint @ checkpoint.T, exported @ exported.T
    np.fill_diagonal(S_NN, -np.inf)
    np.fill_diagonal(other_NN, -np.inf)
    reached_N = np.take_along_axis(S_NN, other_NN.argmax(axis=1)[:, None], axis=1)[:, 0]
    same = S_NN.max(axis=1) - reached_N <= TOLERANCE
    return Parity(len(S_NN), float(np.abs(checkpoint - exported).max()), int(same.sum()))


def check_export(config: DictConfig) -> None:
    """Check an export's configuration without reading checkpoint or images."""
    for key, example in {"ckpt_path": "…/checkpoints/best.ckpt", "images": "my_images"}.items():
        if OmegaConf.select(config, key) is None:
            raise UserError(f"{key} is missing: give it, such as {key}={example}.")
    config.ckpt_path = checkpoint_file(config.ckpt_path)
    valid(config.format, Literal["onnx", "pt2"], "format")
    if missing := [name for name in FORMATS[config.format].packages if find_spec(name) is None]:
        raise UserError(f"format={config.format} needs other packages: pip install {' '.join(missing)}.")
    if len(images_of(config.images)) < 2:
        raise UserError(f"images={config.images} holds fewer than two images: give a folder with more.")


def images_of(folder: str) -> list[Path]:
    """Up to 32 image files below a folder, spread evenly over them by path."""
    if not Path(folder).is_dir():
        raise UserError(f"images={folder} is not a folder: give one with some images.")
    files = [file for file in files_below(Path(folder)) if file.suffix.lower() in EXTENSIONS]
    chosen = np.linspace(0, len(files) - 1, min(IMAGES, len(files))).round().astype(int)
    return [files[i] for i in chosen]


def export(config: DictConfig) -> None:
    """Write the network and `model.json` to the run's folder, both or neither, and print the folder last.

    A UserError if what was written does not embed as the checkpoint does.
    """
    check_export(config)
    set_aside(config.run_dir, [*(f"model.{format}" for format in FORMATS), NAME])
    trained = load(config.ckpt_path, device="cpu", trust=config.trust or ())
    dataset = trained.dataset(images_of(config.images))
    images = collate([dataset[i] for i in range(len(dataset))])["image"]
    file = Path(config.run_dir) / f"model.{config.format}"
    with whole_file(file) as part, whole_file(file.with_name(NAME)) as card:
        measured = write(trained, images, config.format, part)
        if not measured.holds:
            raise UserError(
                f"{file} is not kept: on {measured.images} images it differs from the checkpoint by up to "
                f"{measured.largest_difference:.2g} (allowed: {TOLERANCE:g}), and {measured.same_nearest} nearest "
                "images are the same; try the other format or another version of torch."
            )
        write_card(card, trained, images, config, measured._asdict())
    print(
        f"Parity with the checkpoint on {measured.images} images: largest difference "
        f"{measured.largest_difference:.1e}, the same nearest images."
    )
    print(config.run_dir)


def write(trained: TrainedEmbedder, images: Tensor, format: str, file: Path) -> Parity:
    """Write the network in a format, read it back and compare it with the checkpoint's, both in float32.

    Args:
        trained: on the CPU.
        images: N ≥ 2 preprocessed images, (N, C, H, W).
        format: a key of `FORMATS`.
        file: to write to.
    """
    chosen = FORMATS[format]
    trained.embedder.requires_grad_(False)
    chosen.write(trained.embedder, images[:2], file)
    embed = chosen.read(file)
    # Batches of several sizes show that the batch is dynamic.
    exported = np.concatenate([embed(batch) for batch in (images[:1].numpy(), images[1:].numpy())])
    return parity(trained.embedder(images).numpy(), exported)
