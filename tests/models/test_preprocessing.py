"""Pixels as the network takes them, worked out by hand."""

import pytest
import torch

from dml.errors import UserError
from dml.models import Preprocessing

PIXEL = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1)


def test_centres_and_scales_each_channel() -> None:
    prepared = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.1, 0.2, 0.5))(PIXEL)
    torch.testing.assert_close(prepared.flatten(), torch.tensor([1.0, 1.0, 0.6]))


def test_bgr_turns_the_channels_before_centring() -> None:
    prepared = Preprocessing(mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0), scale=10.0, bgr=True)(PIXEL)
    torch.testing.assert_close(prepared.flatten(), torch.tensor([6.0 - 1, 4.0 - 2, 2.0 - 3]))


def test_bytes_are_fractions_of_255() -> None:
    prepared = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(
        torch.full((1, 3, 1, 1), 51, dtype=torch.uint8)
    )
    torch.testing.assert_close(prepared.flatten(), torch.full((3,), 0.2))


def test_grey_is_repeated() -> None:
    prepared = Preprocessing(mean=(0.0, 1.0, 2.0), std=(1.0, 1.0, 1.0))(torch.ones(2, 1, 4, 4))
    assert prepared.shape == (2, 3, 4, 4)
    assert prepared[0, :, 0, 0].tolist() == [1, 0, -1]


def test_colour_does_not_fit_a_grey_network() -> None:
    with pytest.raises(UserError, match="3 channels and the network takes 1"):
        Preprocessing(mean=(0.0,), std=(1.0,))(PIXEL)


def test_leaves_nothing_in_a_checkpoint() -> None:
    assert Preprocessing(mean=(0.0,), std=(1.0,)).state_dict() == {}
