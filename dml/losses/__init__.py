"""Pair-based losses, one class per loss, called as `loss(embeddings, labels)`."""

from dml.losses.binomial_deviance import BinomialDevianceLoss
from dml.losses.circle import CircleLoss
from dml.losses.contrastive import ContrastiveLoss
from dml.losses.distance_weighted import DistanceWeightedMining
from dml.losses.from_weights import WeightedPairLoss
from dml.losses.general import GeneralWeightingLoss
from dml.losses.hierarchical_triplet import HierarchicalTripletLoss
from dml.losses.lifted_structure import LiftedStructureLoss
from dml.losses.margin import MarginLoss
from dml.losses.multi_similarity import MultiSimilarityLoss
from dml.losses.n_pair import NPairLoss
from dml.losses.pair_loss import PairLoss, Pairs, label_pairs
from dml.losses.proxy_anchor import ProxyAnchorLoss
from dml.losses.proxy_nca import ProxyNCALoss
from dml.losses.ranked_list import RankedListLoss
from dml.losses.supervised_contrastive import SupervisedContrastiveLoss
from dml.losses.triplet import BatchHardTripletLoss, SemiHardTripletLoss, TripletLoss
from dml.losses.weighting import pair_weights

__all__ = [
    "BatchHardTripletLoss",
    "BinomialDevianceLoss",
    "CircleLoss",
    "ContrastiveLoss",
    "DistanceWeightedMining",
    "GeneralWeightingLoss",
    "HierarchicalTripletLoss",
    "LiftedStructureLoss",
    "MarginLoss",
    "MultiSimilarityLoss",
    "NPairLoss",
    "PairLoss",
    "Pairs",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "RankedListLoss",
    "SemiHardTripletLoss",
    "SupervisedContrastiveLoss",
    "TripletLoss",
    "WeightedPairLoss",
    "label_pairs",
    "pair_weights",
]
