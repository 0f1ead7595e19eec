"""Inner products of queries and gallery in blocks, repeatable to the last bit."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dml.errors import UserError

MAX_BLOCK_ROWS = 1024
MAX_BLOCK_ENTRIES = 2**26  # 256 MB of float32
MIN_COLUMNS = 64


def as_embeddings(embeddings: Float[Tensor, "N D"], role: str) -> Float[Tensor, "N D"]:
    """The embeddings as contiguous float32 without gradient.

    Args:
        embeddings: (N, D).
        role: their name in the message, such as "query".

    Raises:
        UserError: an embedding holds a NaN or an infinity; the message counts them.
    """
    z_ND = embeddings.detach().float().contiguous()
    broken = int((~z_ND.sum(dim=1).isfinite()).sum())  # a sum keeps NaN and infinity, at a third of the time
    if broken:
        raise UserError(
            f"{broken} of {len(z_ND)} {role} embeddings hold a NaN or an infinity: the model has diverged; "
            "lower optimizer.lr or start from an earlier checkpoint."
        )
    return z_ND


def duplicate_rows(z_ND: Float[Tensor, "N D"]) -> tuple[Int[Tensor, "C"], Int[Tensor, "C"]]:
    """Positions of rows that repeat an earlier row exactly, and the positions of the rows they repeat.

    Rows are compared by a hash of 64 bits first, then value by value. If different rows share a hash, a repeat of one
    may be overlooked; a row that repeats none is never listed.
    """
    generator = torch.Generator().manual_seed(0)
    weight_D = torch.randint(-(2**62), 2**62, (z_ND.shape[1],), generator=generator).to(z_ND.device)
    # Whole numbers wrap around on overflow: the sum is the same in any order, as a sum of floats is not.
    # Adding 0.0 turns −0.0, which is equal but of other bits, into 0.0.
    hash_N = torch.cat([((part + 0.0).view(torch.int32) * weight_D).sum(dim=1) for part in z_ND.split(4096)])
    sorted_N, order_N = hash_N.sort(stable=True)
    first_N = torch.searchsorted(sorted_N, sorted_N)
    copy_C = (first_N != torch.arange(len(first_N), device=z_ND.device)).nonzero().flatten()
    copies, originals = order_N[copy_C], order_N[first_N[copy_C]]
    pairs = zip(copies.split(4096), originals.split(4096), strict=True)
    equal_C = torch.cat([(z_ND[copy] == z_ND[original]).all(dim=1) for copy, original in pairs])
    return copies[equal_C], originals[equal_C]


def block_rows(gallery_size: int) -> int:
    """Rows of a block: a power of two that depends on the size of the gallery alone."""
    affordable = max(MAX_BLOCK_ENTRIES // gallery_size, 1)
    return min(MAX_BLOCK_ROWS, 1 << (affordable.bit_length() - 1))


def full_precision_mm(a_BD: Tensor, b_DN: Tensor, out: Tensor) -> None:
    """Matrix product in true float32, whatever autocast and TF32 settings training uses."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(a_BD.device.type, enabled=False):
            torch.mm(a_BD, b_DN, out=out)
    finally:
        torch.set_float32_matmul_precision(before)


def similarity_blocks(
    query_QD: Float[Tensor, "Q D"], gallery_ND: Float[Tensor, "N D"]
) -> Iterator[tuple[slice, Float[Tensor, "B N"]]]:
    """Yields (the block's slice of the queries, their inner products with the whole gallery).

    BLAS sums in an order that depends on a matrix's shape. Two properties hold here that a plain product lacks:

    - Gallery images with equal embeddings get equal similarities, by copying.
    - A query's similarities do not depend on the other queries. Every product has the same shape; the last block and
      a small gallery are padded with zeros. That equal shapes give equal bits in every row was measured, not proven:
      with MKL on one and on two threads it held for all galleries of 12 images and more. Between machines or
      numbers of threads nothing is promised.

    A block may be written to; the next one overwrites it. Without queries there is one block of no rows.

    Args:
        query_QD: (Q, D) float32, as from `as_embeddings`.
        gallery_ND: (N, D) float32, likewise.
    """
    rows = block_rows(len(gallery_ND))
    copies, originals = duplicate_rows(gallery_ND)
    size = len(gallery_ND)
    if size < MIN_COLUMNS:
        gallery_ND = F.pad(gallery_ND, (0, 0, 0, MIN_COLUMNS - size))
    padded_BD = query_QD.new_zeros(rows, query_QD.shape[1])
    S_BN = query_QD.new_empty(rows, len(gallery_ND))
    for start in range(0, max(len(query_QD), 1), rows):
        block = slice(start, min(start + rows, len(query_QD)))
        used = block.stop - block.start
        padded_BD[:used] = query_QD[block]
        padded_BD[used:] = 0
        full_precision_mm(padded_BD, gallery_ND.T, out=S_BN)
        if len(copies):
            S_BN[:, copies] = S_BN[:, originals]
        yield block, S_BN[:used, :size]
