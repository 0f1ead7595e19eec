"""Pair-based losses, one class a loss, called as `loss(embeddings, labels)`."""

from dml.losses.multi_similarity import MultiSimilarityLoss
from dml.losses.pair_loss import PairLoss, Pairs

__all__ = ["MultiSimilarityLoss", "PairLoss", "Pairs"]
