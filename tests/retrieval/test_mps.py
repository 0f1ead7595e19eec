"""Retrieval on a device without float64, as Apple's GPUs are: the same figures as on the CPU."""

from contextlib import nullcontext

import pytest
import torch
from fake_mps import FakeMPS, on_fake_mps
from torch import Tensor
from torch.nn import functional as F

from dml.retrieval import nearest, query_metrics, rank_positives, recall_metrics
from dml.retrieval.metrics import METRICS
from dml.retrieval.recall import recall_in_lists


@pytest.fixture(autouse=True)
def _autocast_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has none for the stand-in; for MPS it has one on every machine."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


@pytest.fixture
def sets() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Query, labels, gallery, labels, self_index; every third embedding is a copy, so many similarities tie."""
    torch.manual_seed(0)
    labels = torch.randint(0, 30, (150,))
    z = F.normalize(torch.randn(30, 16)[labels] + torch.randn(150, 16))
    z[::3] = z[torch.randint(0, 150, (50,))]
    return z, labels, z, labels, torch.arange(150)


def test_the_device_is_what_it_claims() -> None:
    with FakeMPS():
        x = on_fake_mps(torch.ones(3))
        assert x.device.type == torch.arange(3, device=x.device).device.type == "meta"
        assert x.cpu().device.type == "cpu"
        for forbidden in (x.double, lambda: x + torch.ones(3), lambda: x.sum(dtype=torch.float64)):
            with pytest.raises(
                (TypeError, RuntimeError), match=r"MPS has no float64|tensors on mps and on the"
            ):
                forbidden()


@pytest.mark.parametrize("with_self", [True, False])
@pytest.mark.parametrize("ks", [(1, 2, 8), (1, 100)])
def test_metrics_are_those_of_the_cpu(sets: tuple[Tensor, ...], with_self: bool, ks: tuple[int, ...]) -> None:
    chosen, metrics = sets if with_self else sets[:4], recall_metrics(ks) | METRICS
    with FakeMPS():
        there = [on_fake_mps(x) for x in chosen]
        by_lists = recall_in_lists(*there, ks=ks)
        by_rows = query_metrics(rank_positives(*there), metrics)
    assert by_lists.means() == recall_in_lists(*chosen, ks=ks).means()
    assert by_rows.means() == query_metrics(rank_positives(*chosen), metrics).means()


def test_neighbours_stay_on_the_device(sets: tuple[Tensor, ...]) -> None:
    query, _, gallery, _, itself = sets
    with FakeMPS():
        found = nearest(on_fake_mps(query), on_fake_mps(gallery), 3, on_fake_mps(itself))
    assert found.similarity_QK.device.type == "meta"
    torch.testing.assert_close(found.similarity_QK.cpu(), nearest(query, gallery, 3, itself).similarity_QK)
