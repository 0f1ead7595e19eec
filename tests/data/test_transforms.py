"""RandomAffine against torchvision's, and its ranges."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from dml.data.transforms import RandomAffine


def numbers(monkeypatch: pytest.MonkeyPatch, *drawn: float) -> None:
    monkeypatch.setattr(torch, "rand", lambda count: torch.tensor(drawn)[:count])


def test_it_moves_an_image_as_torchvision_does(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(3, 20, 40, generator=torch.Generator().manual_seed(0))
    # turn 0.75 → half of +20°; right 1 → +0.1·40 = 4 px; down 0.25 → half of −0.1·20 = −1 px; zoom 0.5 → 1
    numbers(monkeypatch, 0.75, 1.0, 0.25, 0.5)
    ours = RandomAffine(20.0, 0.1, (0.8, 1.2))(image)
    theirs = F.affine(
        image, angle=10.0, translate=[4, -1], scale=1.0, shear=[0.0], interpolation=InterpolationMode.BILINEAR
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_middle_of_every_range_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers(monkeypatch, 0.5, 0.5, 0.5, 0.5)
    image = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    assert torch.allclose(RandomAffine(30.0, 0.2, (0.5, 1.5))(image), image / 255, atol=1e-6)


def test_a_zoom_above_one_enlarges(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers(monkeypatch, 0.5, 0.5, 0.5, 1.0)
    square = torch.zeros(1, 16, 16)
    square[:, 6:10, 6:10] = 1
    assert RandomAffine(0.0, 0.0, (1.0, 2.0))(square).sum() > 2 * square.sum()
