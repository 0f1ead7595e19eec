import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml.losses.labels import check_classes, check_num_classes
from dml.losses.pair_loss import PairLoss, Pairs, check_references
from dml.losses.reductions import log_one_plus_sum_exp


class ProxyRows(PairLoss):
    """A proxy's row: w · log(1 + Σ_P exp(−α (S − δ))) + log(1 + Σ_N exp(α (S + δ)))."""

    def __init__(self, alpha: float, delta: float, positive_weight: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.delta, self.positive_weight = alpha, delta, positive_weight

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        pull_Q = log_one_plus_sum_exp(-self.alpha * (similarity - self.delta), pairs.positive)
        push_Q = log_one_plus_sum_exp(self.alpha * (similarity + self.delta), pairs.negative)
        return self.positive_weight * pull_Q + push_Q


class ProxyAnchorLoss(PairLoss):
    """Proxy-Anchor: the proxies are the anchors, and the batch's embeddings are the references.

        L = mean over proxies with positives of log(1 + Σ_P exp(−α (S_pj − δ)))
          + mean over all proxies of log(1 + Σ_N exp(α (S_pj + δ)))

    Source: Kim et al., CVPR 2020, equation 4. Deviations: none.

    With several processes, each computes the whole loss over the gathered references, because the anchors are
    the proxies.

    Args:
        num_classes: C; labels are 0 … C − 1.
        embedding_dim: D, dimension of the embeddings.
        alpha: α > 0, sharpness.
        delta: δ, margin in similarity.

    Attributes:
        proxies: (C, D), a parameter.

    Raises:
        UserError: C is not positive.
        ValueError: α is not positive.
    """

    def __init__(self, num_classes: int, embedding_dim: int, alpha: float = 32.0, delta: float = 0.1) -> None:
        super().__init__()
        check_num_classes(num_classes)
        if alpha <= 0:
            raise ValueError(f"loss.alpha must be positive, not {alpha}.")
        self.alpha, self.delta = alpha, delta
        self.proxies = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def per_anchor(self, similarity: Float[Tensor, "C R"], pairs: Pairs) -> Float[Tensor, "C"]:
        """Both parts of each proxy's row, before the two means over proxies."""
        return ProxyRows(self.alpha, self.delta).per_anchor(similarity, pairs)

    def forward(
        self,
        embeddings: Float[Tensor, "B D"],
        labels: Int[Tensor, "B"],
        ref_embeddings: Float[Tensor, "R D"] | None = None,
        ref_labels: Int[Tensor, "R"] | None = None,
        self_index: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss of all proxies against the references, or against the batch if none are given.

        Raises:
            ValueError: as in `PairLoss.forward`.
            UserError: a label is not among 0 … C − 1, or `chunk` is out of range.
        """
        references, ref_labels = check_references(embeddings, labels, ref_embeddings, ref_labels)
        check_classes(ref_labels, len(self.proxies))
        class_C = torch.arange(len(self.proxies), device=ref_labels.device)
        # `rows` averages over all C proxies; the factor makes it the mean over present proxies for the positives.
        rows = ProxyRows(self.alpha, self.delta, len(class_C) / len(ref_labels.unique()))
        rows.chunk = self.chunk
        return rows(self.proxies, class_C, references, ref_labels)
