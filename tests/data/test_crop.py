"""Random crops: torchvision's distribution."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2

from dml.data.crop import Crop, RandomResizedCrop

HEIGHT, WIDTH = 90, 130
NUMBERS = np.random.default_rng(0)


def noise(height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    return torch.from_numpy(NUMBERS.integers(0, 256, (height, width, 3)).astype(np.uint8)).permute(2, 0, 1)


def theirs(count: int, scale: tuple[float, float], height: int, width: int) -> np.ndarray:
    torch.manual_seed(1)
    drawn = v2.RandomResizedCrop(8, scale=scale)
    image = torch.zeros(1, height, width)
    rows = [drawn.make_params([image]) for _ in range(count)]
    return np.array([[row["top"], row["left"], row["height"], row["width"]] for row in rows])


@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (40, 300)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    """Of 40×300 most draws do not fit: they are drawn again, and some end in the middle."""
    count = 3000
    torch.manual_seed(0)
    crop = RandomResizedCrop(8, scale=(0.16, 1.0))
    ours = np.array([crop.draw(height, width)[:4] for _ in range(count)])
    others = theirs(count, (0.16, 1.0), height, width)
    for column in range(4):
        assert ks_2samp(ours[:, column], others[:, column]).pvalue > 0.01
    for f in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2]):
        assert ks_2samp(f(ours), f(others)).pvalue > 0.01
    assert (ours[:, 0] + ours[:, 2]).max() <= height
    assert (ours[:, 1] + ours[:, 3]).max() <= width


def test_half_of_all_crops_are_mirrored() -> None:
    torch.manual_seed(2)
    crop = RandomResizedCrop(8)
    mirrored = sum(crop.draw(HEIGHT, WIDTH).mirrored for _ in range(2000))
    assert abs(mirrored - 1000) < 3 * np.sqrt(500)
    assert not any(RandomResizedCrop(8, mirror=0.0).draw(HEIGHT, WIDTH).mirrored for _ in range(50))


def test_a_draw_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """100×100, area half of 1600 … 10000, ratio 1: a side of √5800 = 76; 25 places to begin, the last and first."""
    numbers = torch.full((23,), 0.5)
    numbers[:3] = torch.tensor([0.999, 0.0, 0.4])
    monkeypatch.setattr(torch, "rand", lambda count: numbers[:count])
    assert RandomResizedCrop(8, (0.16, 1.0)).draw(100, 100) == Crop(24, 0, 76, 76, True)


def test_what_never_fits_is_the_middle() -> None:
    """A full area of a strip never has a ratio of 3:4 to 4:3: the middle of 10×1000 is 10×13."""
    crop = RandomResizedCrop(8, scale=(1.0, 1.0), mirror=0.0)
    assert crop.draw(10, 1000) == Crop(0, (1000 - 13) // 2, 10, 13, False)
    assert crop.draw(1000, 10) == Crop((1000 - 13) // 2, 0, 13, 10, False)
    assert crop.draw(1, 200) == Crop(0, 99, 1, 1, False)


def test_a_crop_is_cut_then_resized_then_mirrored() -> None:
    image, crop = noise(), RandomResizedCrop(32, mirror=1.0)
    torch.manual_seed(3)
    top, left, height, width, _ = crop.draw(HEIGHT, WIDTH)
    torch.manual_seed(3)
    expected = v2.functional.resized_crop(image, top, left, height, width, [32, 32]).flip(-1)
    assert (crop(image).int() - expected.int()).abs().max() <= 1
