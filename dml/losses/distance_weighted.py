"""Distance-weighted mining, and random numbers that depend on the seed and the place of a pair alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml.losses.pair_loss import Pairs
from dml.losses.similarity import euclidean_distance

# SplitMix64: Steele, Lea and Flood, OOPSLA 2014, Fast Splittable Pseudorandom Number Generators, figure 16. The
# constants are 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB as signed numbers.
STEP = -7046029254386353131
FACTORS = (-4658895280553007687, -7723592293110705685)
BITS = 23  # random bits of a number; adding 0.5 takes the 24th and last bit of a float32


def scattered(x: Int[Tensor, "*dims"]) -> Int[Tensor, "*dims"]:
    """SplitMix64's mixing function: a bijection of int64 that sends neighbours to unrelated numbers."""
    x = shifted(x, 30).bitwise_xor_(x).mul_(FACTORS[0])
    x = shifted(x, 27).bitwise_xor_(x).mul_(FACTORS[1])
    return shifted(x, 31).bitwise_xor_(x)


def shifted(x: Int[Tensor, "*dims"], bits: int) -> Int[Tensor, "*dims"]:
    """Right shift that fills with zeros; torch's own fills with the sign."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def uniform_rows(seed: int, index: Int[Tensor, "Q"], columns: int) -> Float[Tensor, "Q {columns}"]:
    """Uniform float32 numbers in (0, 1), one for each anchor and reference.

    A number depends only on the seed, the anchor's index and the reference's position. So a row has the same numbers
    in every chunk, on every process, on a CPU and on a GPU.

    Args:
        seed: any int64.
        index: (Q,) indices ≥ 0 of the anchors.
        columns: R, number of references.
    """
    row_Q = scattered(scattered(torch.full_like(index, seed)) + STEP * (index + 1))
    column_R = torch.arange(1, columns + 1, device=index.device)
    bits_QR = shifted(scattered(row_Q[:, None] + STEP * column_R), 64 - BITS)
    return bits_QR.float().add_(0.5).mul_(2.0**-BITS)


@dataclass
class DistanceWeightedMining:
    """Draws as many negatives as the anchor has positives, about evenly over all distances.

        p_in ∝ 1 / q(max(d_in, c)) for d_in < d_max, else 0;    q(d) ∝ d^(D−2) (1 − d²/4)^((D−3)/2)

    q is the density of distances between uniform random points on the unit sphere in D dimensions. All positives
    are kept. A draw depends only on `pairs.seed` and the positions of anchor and reference, so any subset of the
    anchors draws the same negatives as all anchors together. Without a seed, torch's global generator draws one.

    Source: Wu et al., ICCV 2017, Sampling Matters in Deep Embedding Learning, section 4.1.

    Deviations from the authors' code: the negatives of one anchor are distinct. If all are beyond d_max, none is
    drawn; the code then draws uniformly (the margin loss of such pairs is zero).

    Args:
        embedding_dim: D, dimension of the embeddings.
        cutoff: c, Euclidean distance; closer negatives are as likely as those at c, to limit noise.
        max_distance: d_max, Euclidean distance at and beyond which negatives are not drawn.
    """

    embedding_dim: int
    cutoff: float = 0.5
    max_distance: float = 1.4

    def log_weights(self, similarity: Float[Tensor, "Q R"]) -> Float[Tensor, "Q R"]:
        """−log q of the clamped distances, up to a constant; −inf from d_max on."""
        d_QR = euclidean_distance(similarity)
        cut_QR = d_QR.clamp(self.cutoff, self.max_distance)
        # q(2) is zero and d_max may be 2: the clamp keeps log q finite.
        sphere_QR = (1 - cut_QR**2 / 4).clamp_min(torch.finfo(d_QR.dtype).tiny)
        log_QR = (2 - self.embedding_dim) * cut_QR.log() + (3 - self.embedding_dim) / 2 * sphere_QR.log()
        return log_QR.masked_fill(d_QR >= self.max_distance, -torch.inf)

    @torch.no_grad()
    def __call__(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Pairs:
        anchors, references = similarity.shape
        seed = int(torch.randint(2**62, ())) if pairs.seed is None else pairs.seed
        own_Q = pairs.self_index
        index_Q = torch.arange(anchors, device=similarity.device) if own_Q is None else own_Q
        # The k largest of log weight + Gumbel noise are k draws without replacement.
        noise_QR = -(-uniform_rows(seed, index_Q, references).log()).log()
        key_QR = (self.log_weights(similarity) + noise_QR).masked_fill(~pairs.negative, -torch.inf)
        draws_Q1 = pairs.positive.sum(dim=1, keepdim=True)
        ranked_QR = key_QR.sort(dim=1, descending=True).values
        smallest_Q1 = ranked_QR.gather(1, (draws_Q1 - 1).clamp_min(0))
        drawn_QR = (key_QR >= smallest_Q1) & (key_QR > -torch.inf) & (draws_Q1 > 0)
        return pairs._replace(negative=drawn_QR)
