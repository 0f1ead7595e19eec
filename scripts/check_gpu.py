"""What a GPU must do as the CPU does, checked and timed in one go.

    python scripts/check_gpu.py                       # one GPU, a minute or two
    python scripts/check_gpu.py --device cpu --small  # the same code where there is none

A table of one row a check: bf16 training with the loss in float32; the loss of a very large batch in chunks; Recall@K
and all metrics of a gallery as large as Stanford Online Products'; one process under NCCL (gloo on a CPU) against none.
Ends with status 1 where one fails.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from benchmark_retrieval import bare_product, clustered
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dml.config.build import build_data, build_module, build_trainer
from dml.config.cli import CONF
from dml.distributed import global_batch
from dml.losses import MultiSimilarityLoss
from dml.losses.chunks import Chunk
from dml.retrieval import retrieval_metrics

Check = Callable[[torch.device, bool], str]


def timed(device: torch.device, call: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives and its seconds, the device's work included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    start = time.perf_counter()
    given = call()
    wait()
    return given, time.perf_counter() - start


def bf16_training(device: torch.device, small: bool) -> str:
    """A few steps of a run in bf16: the network's output is bf16, similarities and loss float32, all finite."""
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    steps = 5 if small else 50
    with initialize_config_dir(CONF, version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        given = [f"run_dir={folder}", f"trainer.max_steps={steps}", f"trainer.accelerator={accelerator}"]
        config = compose("train", [*given, "trainer.devices=1", "trainer.precision=bf16-mixed"])
        data = build_data(config)
        module = build_module(config, data.num_classes)
        seen: set[torch.dtype] = set()
        per_anchor, values = module.loss.per_anchor, []

        def watched(similarity: Tensor, pairs: Any) -> Tensor:
            seen.add(similarity.dtype)
            values.append(per_anchor(similarity, pairs))
            return values[-1]

        module.loss.per_anchor = watched
        trainer = build_trainer(config)
        _, seconds = timed(device, lambda: trainer.fit(module, datamodule=data))
        recall = float(trainer.callback_metrics["val/recall_at_1"])
    assert seen == {torch.float32}, f"similarities came in {seen}"
    assert all(value.isfinite().all() for value in values)
    return f"{steps} steps in {seconds:.1f} s, Recall@1 {recall:.3f}"


def value_and_gradient(device: torch.device, size: int, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Of the multi-similarity loss on random embeddings, the same on every device."""
    z_BD = torch.randn(size, 512, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    loss = MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1)
    loss.chunk = chunk
    value = loss(z_BD, torch.arange(size, device=device) // 4)
    value.backward()
    assert z_BD.grad is not None
    return value.detach(), z_BD.grad


def large_batch(device: torch.device, small: bool) -> str:
    """65,536 × 512 in chunks; at 4,096, equal to whole rows and to the CPU."""
    least = 512 if small else 4096
    value, grad_BD = value_and_gradient(device, least, 100)
    for other in (device, torch.device("cpu")):
        expected, expected_BD = value_and_gradient(other, least, None)
        torch.testing.assert_close(value.cpu(), expected.cpu(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(grad_BD.cpu(), expected_BD.cpu(), rtol=0, atol=1e-6)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    size = 4096 if small else 65_536
    _, seconds = timed(device, lambda: value_and_gradient(device, size, "auto"))
    peak = f", peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if device.type == "cuda" else ""
    return f"{size} × 512 in {seconds:.2f} s{peak}"


def retrieval(device: torch.device, small: bool) -> str:
    """All metrics on the device, beside the bare product, and how far off the CPU's: similarities round otherwise."""
    images = 3000 if small else 60_502
    z_ND, labels = clustered(images, max(images // 5, 1), 512, 2.0)
    queries = torch.arange(0, images, 8)

    def metrics(on: torch.device, index: Tensor) -> dict[str, float]:
        z, y, i = z_ND.to(on), labels.to(on), index.to(on)
        return retrieval_metrics(z[i], y[i], z, y, i)

    there, here = metrics(device, queries), metrics(torch.device("cpu"), queries)
    difference = max(abs(there[name] - here[name]) for name in here)
    assert difference < 1e-3, f"metrics are {difference:.1e} off the CPU's"
    _, seconds = timed(device, lambda: metrics(device, torch.arange(images)))
    z_there = z_ND.to(device)
    _, bare = timed(device, lambda: bare_product(z_there))
    beside = f"{seconds / bare:.2f} times the bare product; {difference:.1e} off the CPU's"
    return f"{images} × 512 in {seconds:.2f} s, {beside}"


def one_process(device: torch.device, small: bool) -> str:
    """A step under DDP in a world of one process equals a step without."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    backend = "nccl" if device.type == "cuda" else "gloo"
    x_BC, label_B = torch.randn(80, 64, device=device), torch.arange(80, device=device) // 4
    loss, gradients = MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1), []
    for grouped in (False, True):
        torch.manual_seed(0)
        network: nn.Module = nn.Linear(64, 32).to(device)
        if grouped:
            dist.init_process_group(backend, rank=0, world_size=1)
            network = DistributedDataParallel(network)
        z_BD = network(x_BC)
        *references, weight = global_batch(z_BD, label_B)
        (loss(z_BD, label_B, *references) * weight).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    dist.destroy_process_group()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-6)
    return f"{backend}, gradients equal to 1e-6"


CHECKS: tuple[Check, ...] = (bf16_training, large_batch, retrieval, one_process)


def main() -> None:
    """Run all checks and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script itself")
    args = parser.parse_args()
    if args.device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("Error: there is no CUDA GPU here; --device cpu --small runs the same checks without one.")
    torch.manual_seed(0)
    rows = []
    for check in CHECKS:
        try:
            rows.append(f"{check.__name__:14} ok    {check(args.device, args.small)}")
        except (AssertionError, RuntimeError) as error:
            rows.append(f"{check.__name__:14} FAIL  {' '.join(str(error).split())}")
    name = torch.cuda.get_device_name() if args.device.type == "cuda" else "CPU"
    print("\n".join([f"torch {torch.__version__}, {name}", *rows]))
    sys.exit(any(" FAIL " in row for row in rows))


if __name__ == "__main__":
    main()
