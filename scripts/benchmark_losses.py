"""Time each loss, forward and backward, beside the same loss of pytorch-metric-learning.

    python scripts/benchmark_losses.py --losses ms triplet --batch 80 512 2048

Both run in turn within one process, on the same random embeddings of P classes with K images each; a time is
the median of the rounds. Needs the development dependencies.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor

import dml.losses as ours

Loss = Callable[[Tensor, Tensor], Tensor]


def mined(loss: torch.nn.Module, miner: torch.nn.Module) -> Loss:
    """The peer's way to join a miner with a loss."""
    return lambda z, y: loss(z, y, miner(z, y))


def competitors(classes: int, dim: int) -> dict[str, tuple[Loss, Loss]]:
    """Ours and the peer's, by name, with the same settings."""
    return {
        "ms": (
            ours.MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1),
            mined(losses.MultiSimilarityLoss(2, 40, 0.5), miners.MultiSimilarityMiner(0.1)),
        ),
    }


def milliseconds(loss: Loss, z: Tensor, y: Tensor, calls: int) -> float:
    """Mean time of a forward and backward pass over a few calls."""
    wait = torch.cuda.synchronize if z.is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        z.grad = None
        loss(z, y).backward()
    wait()
    return (time.perf_counter() - start) / calls * 1e3


def measure(pair: tuple[Loss, Loss], z: Tensor, y: Tensor, rounds: int, calls: int) -> tuple[float, float]:
    """Median times of the two, taken in turn after a round to warm up."""
    times = [tuple(milliseconds(loss, z, y, calls) for loss in pair) for _ in range(rounds + 1)][1:]
    mine, theirs = zip(*times, strict=True)
    return statistics.median(mine), statistics.median(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--losses", nargs="*", help="names; all when absent")
    parser.add_argument("--batch", type=int, nargs="*", default=[80, 512, 2048])
    parser.add_argument("--images-per-class", type=int, default=5)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice when absent")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"{'loss':<22}{'batch':>6}{'ours, ms':>10}{'peer, ms':>10}{'times as fast':>15}")
    for size in args.batch:
        torch.manual_seed(0)
        y = torch.arange(size, device=args.device) // args.images_per_class
        z = torch.randn(size, args.dim, device=args.device, requires_grad=True)
        pairs = competitors(int(y.max()) + 1, args.dim)
        for name in args.losses or pairs:
            mine, theirs = measure(pairs[name], z, y, args.rounds, calls=max(1, 800 // size))
            print(f"{name:<22}{size:>6}{mine:>10.2f}{theirs:>10.2f}{theirs / mine:>15.2f}")


if __name__ == "__main__":
    main()
