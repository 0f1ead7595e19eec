import pytest
import torch
from torchvision.transforms import v2

from dml.data.crop import RandomResizedCrop
from dml.data.steps import changes_nothing, steps_of, still_and_moving

RESIZE, CENTRE, CROP, FLIP = (
    v2.Resize(16),
    v2.CenterCrop(12),
    RandomResizedCrop(12),
    v2.RandomHorizontalFlip(),
)


@pytest.mark.parametrize(
    ("transform", "still", "moving"),
    [
        (None, [], []),
        (CROP, [], [CROP]),
        (RESIZE, [RESIZE], []),
        (v2.Compose([RESIZE, CENTRE]), [RESIZE, CENTRE], []),
        (v2.Compose([RESIZE, CROP, CENTRE]), [RESIZE], [CROP, CENTRE]),
        (v2.Compose([FLIP, RESIZE]), [], [FLIP, RESIZE]),
    ],
)
def test_only_what_comes_before_the_first_random_step_is_still(transform, still: list, moving: list) -> None:  # type: ignore[no-untyped-def]
    assert still_and_moving(transform) == (still, moving)
    assert steps_of(transform) == still + moving


@pytest.mark.parametrize("size", [16, [16], [16, 20], 12, [16, 16]])
@pytest.mark.parametrize(("height", "width"), [(16, 20), (20, 16), (16, 16), (12, 16)])
def test_a_resize_is_passed_over_only_where_it_changes_nothing(size: object, height: int, width: int) -> None:
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    if changes_nothing(v2.Resize(size), image):  # type: ignore[arg-type]
        assert torch.equal(v2.Resize(size)(image), image)  # type: ignore[arg-type]
    assert changes_nothing(v2.Resize(16), torch.zeros(3, 16, 99))
    assert not changes_nothing(v2.Resize(16, max_size=20), torch.zeros(3, 16, 99))
    assert not changes_nothing(CENTRE, torch.zeros(3, 12, 12))
