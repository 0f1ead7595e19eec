"""The memory and time of the multi-similarity loss, forward and backward, on a batch of any size.

    MALLOC_MMAP_THRESHOLD_=1000000 python scripts/check_bounded_memory.py [batch] [dimension] [chunk]

On the CPU: 65,536 × 512 in chunks of 256 must fit in 4 GB. Without that variable glibc keeps what torch gave
back, since small results lie between large blocks, and the process grows with every chunk.
"""

import resource
import sys
import time

import torch

from dml.losses import MultiSimilarityLoss


def main() -> None:
    batch, dim, chunk = (*map(int, sys.argv[1:]), *(65_536, 512, 256)[len(sys.argv) - 1 :])
    torch.manual_seed(0)
    loss = MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1)
    loss.chunk = chunk
    z_BD = torch.randn(batch, dim, requires_grad=True)
    label_B = torch.arange(batch) // 4
    start = time.perf_counter()
    value = loss(z_BD, label_B)
    value.backward()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"batch {batch} × {dim}, chunks of {chunk}, {torch.get_num_threads()} threads: loss {value.item():.6f}, "
        f"{seconds:.0f} s, peak {peak:.2f} GB with torch itself"
    )


if __name__ == "__main__":
    main()
