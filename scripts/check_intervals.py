"""How often 95% intervals hold the truth, on drawn classes of a known population.

    python scripts/check_intervals.py

Means of queries: a class's share of hits is drawn from a beta distribution, whose mean is the truth. NMI and AMI:
images lie around the centres of their classes, and the truth is the mean over the draws.
"""

import argparse

import numpy as np
import torch
from torch.nn import functional as F

from dml.retrieval.clustering import agreement, agreement_intervals, k_means
from dml.retrieval.intervals import class_intervals


def of_means(classes: int, alpha: float, beta: float, draws: int) -> float:
    """Share of the intervals of a mean that hold the truth, α / (α + β)."""
    generator, truth, held = np.random.default_rng(0), alpha / (alpha + beta), 0
    for _ in range(draws):
        share_C, size_C = generator.beta(alpha, beta, classes), generator.integers(10, 60, classes)
        class_Q = np.repeat(np.arange(classes), size_C)
        hit_Q1 = (generator.random(len(class_Q)) < share_C[class_Q]).astype(float)[:, None]
        low, high = class_intervals(hit_Q1, class_Q)[0]
        held += low <= truth <= high
    return held / draws


def of_clusters(classes: int, draws: int, images: int = 15, dim: int = 16) -> dict[str, float]:
    """Share of the intervals of NMI and of AMI that hold their mean over the draws."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(draws):
        label_N = torch.arange(classes).repeat_interleave(images)
        spread_C1 = 0.45 + 0.9 * torch.rand(classes, 1, generator=generator)
        centre_CD = torch.randn(classes, dim, generator=generator)
        noise_ND = spread_C1[label_N] * torch.randn(len(label_N), dim, generator=generator)
        cluster_N = k_means(F.normalize(centre_CD[label_N] + noise_ND), classes, starts=1).numpy()
        arguments = label_N.numpy(), cluster_N
        found.append((agreement(*arguments), agreement_intervals(*arguments)))
    truth = {name: np.mean([metrics[name] for metrics, _ in found]) for name in found[0][0]}
    return {
        name: float(np.mean([i[name][0] <= m <= i[name][1] for _, i in found])) for name, m in truth.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    print("mean of queries: classes, share with a truth of 0.60, 0.80 and 0.93")
    for classes in (5, 10, 20, 50, 100):
        print(classes, *(f"{of_means(classes, a, b, draws):.3f}" for a, b in ((6, 4), (4, 1), (9, 0.7))))
    print("NMI and AMI: classes, share")
    for classes in (20, 60):
        print(classes, *(f"{name} {share:.3f}" for name, share in of_clusters(classes, draws).items()))


if __name__ == "__main__":
    main()
