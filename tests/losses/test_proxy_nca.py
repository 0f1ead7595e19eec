import torch
from loss_cases import assert_agrees_with_peer, from_yaml, random_batch
from pytorch_metric_learning import losses
from torch.nn import functional as F

from dml.losses import ProxyNCALoss


def test_equals_a_loop_over_proxies() -> None:
    z, y = random_batch(0)
    loss = ProxyNCALoss(5, 6, scale=2.0).double()
    unit, proxies = F.normalize(z), F.normalize(loss.proxies)
    total = z.new_zeros(())
    for i in range(len(z)):
        terms = [torch.exp(-2 * (unit[i] - p).square().sum()) for p in proxies]
        total = total - torch.log(terms[y[i]] / sum(terms)) / len(z)
    value = loss(z, y)
    torch.testing.assert_close(value, total, rtol=0, atol=1e-6)
    expected, *_ = torch.autograd.grad(total, loss.proxies, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(value, loss.proxies)[0], expected, rtol=0, atol=1e-6)


def test_agrees_with_pytorch_metric_learning() -> None:
    loss, peer = ProxyNCALoss(4, 6, scale=3.0).double(), losses.ProxyNCALoss(4, 6, softmax_scale=3.0)
    assert_agrees_with_peer(loss, peer)


def test_other_references_are_left_aside() -> None:
    z, y = random_batch(0)
    loss = ProxyNCALoss(4, 6)
    assert loss(z[:5], y[:5], z, y, torch.arange(5)) == loss(z[:5], y[:5])


def test_yaml() -> None:
    loss = from_yaml("loss/proxy_nca", num_classes=3, embedding_dim=6)
    assert loss.proxies.shape == (3, 6)
    assert loss.scale == 9
