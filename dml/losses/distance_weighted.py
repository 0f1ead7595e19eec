from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dml.losses.counter_rng import uniform_rows
from dml.losses.pair_loss import Pairs
from dml.losses.similarity import euclidean_distance


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
        # The k largest of log weight + Gumbel noise are k draws without replacement.
        noise_QR = -(-random_rows(pairs).log()).log()
        key_QR = (self.log_weights(similarity) + noise_QR).masked_fill(~pairs.negative, -torch.inf)
        draws_Q1 = pairs.positive.sum(dim=1, keepdim=True)
        ranked_QR = key_QR.sort(dim=1, descending=True).values
        smallest_Q1 = ranked_QR.gather(1, (draws_Q1 - 1).clamp_min(0))
        drawn_QR = (key_QR >= smallest_Q1) & (key_QR > -torch.inf) & (draws_Q1 > 0)
        return pairs._replace(negative=drawn_QR)


def random_rows(pairs: Pairs) -> Float[Tensor, "Q R"]:
    """A random number in (0, 1) for each entry of the similarity matrix."""
    rows, columns = pairs.positive.shape
    seed = int(torch.randint(2**62, ())) if pairs.seed is None else pairs.seed
    index_Q = (
        torch.arange(rows, device=pairs.positive.device) if pairs.self_index is None else pairs.self_index
    )
    return uniform_rows(seed, index_Q, columns)
