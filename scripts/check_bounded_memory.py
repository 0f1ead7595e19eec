"""Whether the multi-similarity loss of a very large batch, forward and backward, fits in 4 GB on the CPU.

    python scripts/check_bounded_memory.py [--batch 65536] [--dim 512] [--chunk auto] [--threads 1]

The peak is the whole process's, torch itself included; at 65,536 a similarity matrix alone would take 17 GB. Ends with
status 1 where the peak is above the goal. Linux.
"""

import argparse
import resource
import sys
import time

import torch

from dml.losses import MultiSimilarityLoss

GOAL = 4.0  # GB = 10⁹ bytes


def chunk(text: str) -> int | str:
    return text if text == "auto" else int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=65_536)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--chunk", type=chunk, default="auto", help="as loss.chunk")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    loss = MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1)
    loss.chunk = args.chunk
    z_BD = torch.randn(args.batch, args.dim, requires_grad=True)
    label_B = torch.arange(args.batch) // 4
    print(f"goal: a batch of {args.batch} × {args.dim}, forward and backward, in {GOAL:.0f} GB", flush=True)
    start, cpu_start = time.perf_counter(), time.process_time()
    value = loss(z_BD, label_B)
    value.backward()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(
        f"result: peak {peak:.2f} GB, {'within' if peak <= GOAL else 'ABOVE'} the goal; {seconds:.0f} s, "
        f"{cpu_seconds:.0f} s of CPU, on {args.threads} thread(s); loss {value.item():.6f}, "
        f"length of the gradient {z_BD.grad.norm().item():.6e}"
    )
    sys.exit(peak > GOAL)


if __name__ == "__main__":
    main()
