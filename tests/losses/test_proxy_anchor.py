import torch
from loss_cases import assert_agrees_with_peer, from_yaml, random_batch
from pytorch_metric_learning import losses
from torch.nn import functional as F

from dml.losses import ProxyAnchorLoss


def test_equals_a_loop_over_proxies() -> None:
    z, _ = random_batch(0)
    y = torch.arange(12) % 3
    loss = ProxyAnchorLoss(5, 6, alpha=4.0, delta=0.1).double()
    S = F.normalize(loss.proxies) @ F.normalize(z).T
    pull = push = z.new_zeros(())
    for c in range(5):
        positives = [j for j in range(12) if y[j] == c]
        negatives = [j for j in range(12) if y[j] != c]
        if positives:
            pull = pull + torch.log(1 + sum(torch.exp(-4 * (S[c, j] - 0.1)) for j in positives)) / 3
        push = push + torch.log(1 + sum(torch.exp(4 * (S[c, j] + 0.1)) for j in negatives)) / 5
    value = loss(z, y)
    torch.testing.assert_close(value, pull + push, rtol=0, atol=1e-6)
    expected, *_ = torch.autograd.grad(pull + push, loss.proxies)
    torch.testing.assert_close(torch.autograd.grad(value, loss.proxies)[0], expected, rtol=0, atol=1e-6)


def test_agrees_with_pytorch_metric_learning() -> None:
    loss, peer = ProxyAnchorLoss(6, 6).double(), losses.ProxyAnchorLoss(6, 6, margin=0.1, alpha=32)
    assert_agrees_with_peer(loss, peer)


def test_each_rank_computes_the_whole() -> None:
    z, y = random_batch(0)
    loss = ProxyAnchorLoss(4, 6)
    assert loss(z[:5], y[:5], z, y, torch.arange(5)) == loss(z, y)


def test_yaml() -> None:
    loss = from_yaml("loss/proxy_anchor", num_classes=3, embedding_dim=6)
    assert loss.proxies.shape == (3, 6)
    assert (loss.alpha, loss.delta) == (32, 0.1)
