import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml.losses.labels import check_classes, check_num_classes
from dml.losses.pair_loss import PairLoss, Pairs, check_references
from dml.losses.reductions import log_sum_exp, masked_min, softplus


class ProxyNCALoss(PairLoss):
    """Proxy-NCA: separates the proxy of the anchor's class from the proxies of all other classes.

        ℓ_i = −log(exp(−s d²(i, p_y)) / Σ_c exp(−s d²(i, p_c)))

    d² = 2 − 2S is the squared Euclidean distance. The references are the C proxies; references passed to
    `forward` are ignored. Source: Movshovitz-Attias et al., ICCV 2017, section 3.

    Deviations: the sum includes the proxy of the anchor's class, as in NCA and in ProxyNCA++ (Teh, DeVries and
    Taylor, 2020). Without it the pull towards that proxy would never fade. The scale s is the inverse temperature
    of ProxyNCA++; the paper has s = 1.

    Args:
        num_classes: C; labels are 0 … C − 1.
        embedding_dim: D, dimension of the embeddings.
        scale: s > 0.

    Attributes:
        proxies: (C, D), a parameter.

    Raises:
        UserError: C is not positive.
        ValueError: s is not positive.
    """

    def __init__(self, num_classes: int, embedding_dim: int, scale: float = 1.0) -> None:
        super().__init__()
        check_num_classes(num_classes)
        if scale <= 0:
            raise ValueError(f"loss.scale must be positive, not {scale}.")
        self.scale = scale
        self.proxies = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def per_anchor(self, similarity: Float[Tensor, "Q C"], pairs: Pairs) -> Float[Tensor, "Q"]:
        logits_QC = 2 * self.scale * similarity
        # A row has one positive. If it has none, the minimum is +inf and the loss is 0.
        own_Q = masked_min(logits_QC, pairs.positive).squeeze(1)
        return softplus(log_sum_exp(logits_QC, pairs.negative) - own_Q)

    def forward(
        self,
        embeddings: Float[Tensor, "B D"],
        labels: Int[Tensor, "B"],
        ref_embeddings: Float[Tensor, "R D"] | None = None,
        ref_labels: Int[Tensor, "R"] | None = None,
        self_index: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean loss over the anchors against the proxies.

        Raises:
            ValueError: as in `PairLoss.forward`.
            UserError: a label is not among 0 … C − 1, or `chunk` is out of range.
        """
        check_references(embeddings, labels, ref_embeddings, ref_labels)
        check_classes(labels, len(self.proxies))
        class_C = torch.arange(len(self.proxies), device=labels.device)
        return super().forward(embeddings, labels, self.proxies, class_C)
