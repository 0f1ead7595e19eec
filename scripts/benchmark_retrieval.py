"""Time and memory of Recall@K, and of all of a test but k-means, beside the bare matrix product of the similarities.

    python scripts/benchmark_retrieval.py                      # Stanford Online Products' size; minutes
    python scripts/benchmark_retrieval.py --images 15000       # seconds
    python scripts/benchmark_retrieval.py --peer               # pytorch-metric-learning's calculator too

Goals at full size: Recall@K at most 1.2 times the product's time; all metrics, intervals and queries.csv at most 1.25
times, under 2 GB above the embeddings' own.
On a machine that is busy otherwise only the ratio of CPU times with OMP_NUM_THREADS=1 means anything.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn import functional as F

from dml.data.protocol import EvaluationSet
from dml.data.split import Samples
from dml.retrieval import QueryMetrics, query_metrics, recall_metrics
from dml.retrieval.evaluate import rank_queries
from dml.retrieval.metrics import METRICS
from dml.retrieval.recall import recall_in_lists
from dml.runs.queries import write_queries

PRODUCT_ROWS = 1024
KS = range(1, 9)


def clustered(images: int, classes: int, dim: int, spread: float) -> tuple[Tensor, Tensor]:
    """Unit embeddings (N, D) scattered about one random direction a class, and their labels (N,)."""
    labels = torch.arange(images) % classes
    z_ND = torch.randn(images, dim).mul_(spread / dim**0.5)
    z_ND += F.normalize(torch.randn(classes, dim), dim=1)[labels]
    return z_ND.div_(z_ND.norm(dim=1, keepdim=True)), labels


def bare_product(z_ND: Tensor) -> None:
    """All similarities, computed in blocks of rows and thrown away."""
    S_BN = z_ND.new_empty(PRODUCT_ROWS, len(z_ND))
    for block_BD in z_ND.split(PRODUCT_ROWS):
        torch.mm(block_BD, z_ND.T, out=S_BN[: len(block_BD)])


def peer(z_ND: Tensor, labels: Tensor) -> dict[str, float]:
    """pytorch-metric-learning's calculator on the same embeddings, without its clustering metrics."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
    return calculator.get_accuracy(z_ND, labels)


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Time on the clock and on the processors, all threads together."""
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - processor


def resident_mb() -> float:
    """Memory the process holds now, in MB; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """The most memory the process ever held, in MB; Linux only."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=60_502)
    parser.add_argument("--classes", type=int, help="default: as many images a class as in the full size")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument(
        "--spread", type=float, default=2.0, help="of a class, against the distance of classes"
    )
    parser.add_argument("--repeats", type=int, default=1, help="timed in turn; the fastest of each counts")
    parser.add_argument("--peer", action="store_true", help="also time pytorch-metric-learning's calculator")
    args = parser.parse_args()

    torch.manual_seed(0)
    classes = args.classes or max(args.images * 11_316 // 60_502, 1)
    z_ND, labels = clustered(args.images, classes, args.dim, args.spread)
    itself = torch.arange(args.images)

    def recall() -> QueryMetrics:
        return recall_in_lists(z_ND, labels, z_ND, labels, itself, KS)

    names = [f"class {c}/{n}.jpg" for n, c in enumerate(labels.tolist())]
    evaluation = EvaluationSet.of(Samples([Path(name) for name in names], labels.numpy(), names))

    def metrics() -> QueryMetrics:
        ranking = rank_queries(z_ND, evaluation)
        found = query_metrics(ranking, recall_metrics(KS) | METRICS)
        found.intervals(labels.numpy())
        with TemporaryDirectory() as folder:
            write_queries(Path(folder), evaluation, [str(c) for c in range(classes)], ranking, found)
        return found

    # Memory first, the smaller one first: a peak is for life, and at worst counts the making of the
    # embeddings too.
    before = resident_mb()
    recalls, recall_peak = recall(), peak_mb() - before
    everything, metrics_peak = metrics(), peak_mb() - before
    if not recalls.means().items() <= everything.means().items():
        raise AssertionError("Recall@K by lists and by whole rows differ.")

    calls = {
        "bare product": lambda: bare_product(z_ND),
        "Recall@1…8 (FAISS)": recall,
        "all, intervals, queries.csv": metrics,
    }
    if args.peer:
        calls["pytorch-metric-learning"] = lambda: peer(z_ND, labels)
    # (repeats, calls, clock and processor): in turn, so that a busy spell of the machine hits all alike.
    runs = torch.tensor([[seconds(call) for call in calls.values()] for _ in range(args.repeats)])
    fastest = runs.amin(dim=0).tolist()

    print(f"{args.images} × {args.dim}, {classes} classes, {torch.get_num_threads()} threads")
    for name, (clock, processor) in zip(calls, fastest, strict=True):
        ratios = f"{clock / fastest[0][0]:6.3f} {processor / fastest[0][1]:6.3f}"
        print(f"{name:28} {clock:8.2f} s   CPU {processor:8.2f} s   ratios {ratios}")
    print(f"peak above the embeddings: Recall@K {recall_peak:.0f} MB, all {metrics_peak:.0f} MB")
    print("  ".join(f"{name} {value:.4f}" for name, value in everything.means().items()))


if __name__ == "__main__":
    main()
