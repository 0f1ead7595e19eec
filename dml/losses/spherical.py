from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dml.distributed import gather
from dml.losses.similarity import widened


@dataclass
class SphericalConstraint:
    """Spherical embedding constraint: pulls the lengths of the embeddings, before normalisation, to their mean.

        L = η · mean_i (‖f_i‖ − μ)²,    μ = mean_i ‖f_i‖

    The gradient of a cosine similarity with respect to f_i is proportional to 1/‖f_i‖. Embeddings of equal length
    therefore turn at equal rates.

    μ is the mean over the batch of all processes. It is held constant in backward, which changes nothing: the
    derivative of L with respect to μ is zero.

    Source: Zhang, Li and Zhang, NeurIPS 2020, Deep Metric Learning with Spherical Embedding. Deviations from the
    authors' code: its moving average of μ (`norm_momentum`, off by default) is left out.

    Args:
        eta: η ≥ 0, weight of the constraint, which grows with the square of the lengths; a loss of cosines does not
            depend on them. So a good η depends on the network.

    Raises:
        ValueError: η is negative.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if self.eta < 0:
            raise ValueError(f"regularizer.eta must not be negative, not {self.eta}.")

    def __call__(self, embeddings: Float[Tensor, "B D"], local: bool = False) -> Float[Tensor, ""]:
        """The constraint's mean over this process's embeddings; every process must call, unless `local`.

        Args:
            embeddings: (B, D), not normalised.
            local: μ is that of this process alone.
        """
        norm_B = torch.linalg.vector_norm(widened(embeddings, None)[0], dim=1)
        everyone_N = norm_B.detach() if local else gather(norm_B.detach())
        return self.eta * (norm_B - everyone_N.mean()).square().mean()
