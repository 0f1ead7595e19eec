"""What can be wrong with a dataset, found before training."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from dml.data.read_image import check_shape
from dml.data.split import Samples, Split
from dml.errors import UserError


def check_split(split: Split) -> None:
    """Raise UserError unless both sides have images and no class is on both."""
    roles = {"training": split.train, "test": split.query, "gallery": split.gallery}
    for role, samples in roles.items():
        if samples is not None and len(samples) == 0:
            raise UserError(f"The dataset has no {role} images: check dataset.root.")
    test = [samples.labels for samples in (split.query, split.gallery) if samples is not None]
    shared = np.intersect1d(split.train.labels, np.concatenate(test))
    if len(shared):
        names = ", ".join(str(split.classes[c]) for c in shared[:3])
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        raise UserError(
            f"Training and test must not share a class, but both have images of {names}{more}: "
            "mend the dataset's split."
        )


def check_files(*roles: Samples | None) -> None:
    """Raise UserError naming files that are missing, locked, empty, or no image of a size to learn from.

    Reads headers only, about 0.1 ms a file; a file cut short further on is found when it is decoded.
    """
    files = _files(*roles)
    # Threads, for the sake of network disks; more of them than cores, since they mostly wait.
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        broken = [problem for problem in pool.map(_problem, files) if problem]
    if broken:
        more = f" (and {len(broken) - 1} more such files)" if len(broken) > 1 else ""
        raise UserError(f"{broken[0]}{more}: unpack or download it again, or leave it out.")


def check_present(split: Split, root: Path) -> None:
    """Raise UserError unless every image file listed is there and not empty, about 0.01 ms a file."""
    files = _files(split.train, split.query, split.gallery)
    absent = [file for file in files if not file.is_file() or not file.stat().st_size]
    if absent:
        raise UserError(
            f"{len(absent):,} of the {len(files):,} images listed in {root} are missing or empty, beginning "
            f"with {absent[0]}: this copy is not whole, move it away and prepare it anew."
        )


def _files(*roles: Samples | None) -> list[Path]:
    on_disk = [samples for samples in roles if samples and not isinstance(samples.images, np.ndarray)]
    return [file for samples in on_disk for file in samples.images]


def _problem(file: Path) -> str | None:
    try:
        if file.stat().st_size == 0:
            return f"{file} is empty"
        with Image.open(file) as image:
            check_shape(*image.size)
            return None
    except FileNotFoundError:
        return f"{file} is missing or a broken link"
    except PermissionError:
        return f"{file} may not be read (permission denied)"
    except UnidentifiedImageError:
        return f"{file} is not an image that can be read"
    except Exception as error:
        return f"{file} cannot be read as an image ({' '.join(str(error).split())})"
