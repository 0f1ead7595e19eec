"""Time each loss, forward and backward, beside the same loss of pytorch-metric-learning.

    python scripts/benchmark_losses.py --losses ms triplet --batch 80 512 2048

Both run in turn within one process, on the same random embeddings of P classes with K images each; a time is
the median of the rounds. Needs the development dependencies.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import CosineSimilarity
from torch import Tensor

import dml.losses as ours

Loss = Callable[[Tensor, Tensor], Tensor]


def mined(loss: torch.nn.Module, miner: torch.nn.Module) -> Loss:
    """The peer's way to join a miner with a loss."""
    return lambda z, y: loss(z, y, miner(z, y))


def first_against_second(loss: torch.nn.Module, images_per_class: int) -> Loss:
    """The peer's N-pair layout: the first image of each class against the second of each."""
    first, second = slice(0, None, images_per_class), slice(1, None, images_per_class)
    return lambda z, y: loss(z[first], y[first], z[second], y[second])


def competitors(classes: int, images_per_class: int, dim: int) -> dict[str, tuple[Loss, Loss]]:
    """Ours and the peer's, by name, with the same settings and on cosine similarities where both can."""
    cosine = {"distance": CosineSimilarity()}
    triplet = losses.TripletMarginLoss(0.1, **cosine)
    return {
        "ms": (
            ours.MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1),
            mined(losses.MultiSimilarityLoss(2, 40, 0.5), miners.MultiSimilarityMiner(0.1)),
        ),
        "contrastive": (ours.ContrastiveLoss(0.5), losses.ContrastiveLoss(1, 0.5, **cosine)),
        "triplet": (ours.TripletLoss(0.1), triplet),
        "triplet_semi_hard": (
            ours.SemiHardTripletLoss(0.1),
            mined(triplet, miners.TripletMarginMiner(0.1, "semihard", **cosine)),
        ),
        "triplet_batch_hard": (
            ours.BatchHardTripletLoss(0.1),
            mined(triplet, miners.BatchHardMiner(**cosine)),
        ),
        "lifted_structure": (
            ours.LiftedStructureLoss(1.0),
            losses.GeneralizedLiftedStructureLoss(neg_margin=0, pos_margin=1, **cosine),
        ),
        "n_pair": (first_against_second(ours.NPairLoss(1.0), images_per_class), losses.NPairsLoss()),
        "margin": (
            ours.MarginLoss(num_classes=classes, mining=ours.DistanceWeightedMining(dim)),
            mined(losses.MarginLoss(num_classes=classes, learn_beta=True), miners.DistanceWeightedMiner()),
        ),
        "ranked_list": (ours.RankedListLoss(1.2, 0.4, 3.0), losses.RankedListLoss(0.4, Tn=3, alpha=1.2)),
        "circle": (ours.CircleLoss(0.4, 80.0), losses.CircleLoss(0.4, 80)),
        "supervised_contrastive": (ours.SupervisedContrastiveLoss(0.1), losses.SupConLoss(0.1)),
        "proxy_nca": (
            ours.ProxyNCALoss(classes, dim, 3.0),
            losses.ProxyNCALoss(classes, dim, softmax_scale=3),
        ),
        "proxy_anchor": (ours.ProxyAnchorLoss(classes, dim), losses.ProxyAnchorLoss(classes, dim)),
    }


def milliseconds(loss: Loss, z: Tensor, y: Tensor, calls: int, clock: Callable[[], float]) -> float:
    """Mean time of a forward and backward pass over a few calls."""
    wait = torch.cuda.synchronize if z.is_cuda else lambda: None
    wait()
    start = clock()
    for _ in range(calls):
        z.grad = None
        loss(z, y).backward()
    wait()
    return (clock() - start) / calls * 1e3


def medians(pair: tuple[Loss, Loss], rounds: int, time_of: Callable[[Loss], float]) -> tuple[float, float]:
    """Median times of the two, taken in turn after a round to warm up."""
    times = [tuple(time_of(loss) for loss in pair) for _ in range(rounds + 1)][1:]
    mine, theirs = zip(*times, strict=True)
    return statistics.median(mine), statistics.median(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--losses", nargs="*", help="names; all when absent")
    parser.add_argument("--batch", type=int, nargs="*", default=[80, 512, 2048])
    parser.add_argument("--images-per-class", type=int, default=5)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice when absent")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, for a machine with company")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    clock = time.process_time if args.cpu_time else time.perf_counter
    print(f"{'loss':<24}{'batch':>6}{'ours, ms':>10}{'peer, ms':>10}{'times as fast':>15}")
    for size in args.batch:
        torch.manual_seed(0)
        y = torch.arange(size) // args.images_per_class
        z = torch.randn(size, args.dim, requires_grad=True)
        pairs = competitors(int(y.max()) + 1, args.images_per_class, args.dim)
        for name in args.losses or pairs:
            time_of = partial(milliseconds, z=z, y=y, calls=max(1, 800 // size), clock=clock)
            mine, theirs = medians(pairs[name], args.rounds, time_of)
            print(f"{name:<24}{size:>6}{mine:>10.2f}{theirs:>10.2f}{theirs / mine:>15.2f}")


if __name__ == "__main__":
    main()
