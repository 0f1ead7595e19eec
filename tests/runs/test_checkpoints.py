"""Checkpoints: whole or not there, and one sentence where one does not fit."""

import pytest
import torch
from torch import nn

from dml.errors import UserError
from dml.runs.checkpoints import AtomicCheckpointIO, load_weights, read_checkpoint


def test_an_interrupted_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "config": {"seed": 1}}, path)

    def fails(*args):
        raise OSError("disk full")

    monkeypatch.setattr("dml.runs.checkpoints.os.replace", fails)
    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "config": {"seed": 2}}, path)
    assert read_checkpoint(path)["config"]["seed"] == 1


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "broken.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.ckpt"):
        read_checkpoint(path)


def test_a_truncated_checkpoint_is_named(tmp_path):
    path = tmp_path / "half.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1000)}, "config": {}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"half\.ckpt: not a readable checkpoint"):
        read_checkpoint(path)


def test_another_architecture_is_named_by_its_first_misfits():
    with pytest.raises(UserError, match=r"^ckpt_path=x\.ckpt does not fit .*mismatch for weight.*\[3, 3\]"):
        load_weights(nn.Linear(2, 3), nn.Linear(3, 3).state_dict(), "x.ckpt")
    with pytest.raises(UserError, match=r'Unexpected .*"bias"'):
        load_weights(nn.Linear(2, 3, bias=False), nn.Linear(2, 3).state_dict(), "x.ckpt")
