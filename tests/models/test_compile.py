"""Compiled training and the channels-last layout: the same step and the same keys; evaluation is not compiled."""

from functools import partial
from shutil import which
from types import SimpleNamespace

import pytest
import torch

from dml.config.build import build_module
from dml.errors import UserError
from dml.module import EmbeddingModule


def module_of(config) -> EmbeddingModule:
    torch.manual_seed(0)
    module = build_module(config, num_classes=5)
    module.log = lambda *args, **named: None
    module._trainer = SimpleNamespace(global_step=0)
    return module


@pytest.mark.skipif(which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_step_is_the_same_step(compose, monkeypatch):
    # Kernels for the CPU take a minute to compile; this traces and differentiates as with them.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain, compiled = module_of(compose()), module_of(compose("model.compile=true"))
    assert list(plain.state_dict()) == list(compiled.state_dict())
    batch = {"image": torch.rand(20, 1, 16, 16), "label": torch.arange(20) % 5, "index": torch.arange(20)}
    frames = torch._dynamo.utils.counters["frames"]
    losses = []
    for module in (plain, compiled):
        losses.append(module.training_step(batch, 0)["loss"])
        losses[-1].backward()
    assert frames["ok"] > 0
    torch.testing.assert_close(*losses)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    was = frames["total"]
    compiled.validation_step(batch, 0)
    assert frames["total"] == was


def test_no_compiler(compose, monkeypatch):
    monkeypatch.setattr("dml.config.build.which", lambda name: None)
    with pytest.raises(UserError, match=r"model\.compile=true needs a C\+\+ compiler"):
        build_module(compose("model.compile=true"), num_classes=5)


def test_the_channels_last_layout_alters_no_value(compose):
    plain, last = module_of(compose()), module_of(compose("model.channels_last=true"))
    images = torch.rand(20, 1, 16, 16)
    torch.testing.assert_close(last(images), plain(images))
    weight = next(
        parameter for parameter in last.parameters() if parameter.ndim == 4 and parameter.shape[1] > 1
    )
    assert weight.is_contiguous(memory_format=torch.channels_last)
    last.load_state_dict(plain.state_dict())
    assert weight.is_contiguous(memory_format=torch.channels_last)
