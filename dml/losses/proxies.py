"""Base class of the losses with one proxy per class."""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from dml.losses.labels import check_classes, check_num_classes
from dml.losses.pair_loss import PairLoss


class ProxyLoss(PairLoss):
    """A loss whose anchors or references are proxies, one per class, learnt with the network.

    Args:
        num_classes: C; labels are 0 … C − 1.
        embedding_dim: D, dimension of the embeddings.

    Attributes:
        proxies: (C, D), a parameter that the subclass initialises.

    Raises:
        UserError: C is not positive.
    """

    def __init__(self, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        check_num_classes(num_classes)
        self.proxies = nn.Parameter(torch.empty(num_classes, embedding_dim))

    def proxy_labels(self, labels: Int[Tensor, "N"]) -> Int[Tensor, "C"]:
        """(C,), the classes of the proxies, 0 … C − 1.

        Raises:
            UserError: a label is not among them.
        """
        check_classes(labels, len(self.proxies))
        return torch.arange(len(self.proxies), device=labels.device)
