"""Every loss of the package, in a setting in which it has something to do."""

from collections.abc import Callable

import torch

from dml.losses import (
    BatchHardTripletLoss,
    BinomialDevianceLoss,
    CircleLoss,
    ContrastiveLoss,
    GeneralWeightingLoss,
    LiftedStructureLoss,
    MarginLoss,
    MultiSimilarityLoss,
    NPairLoss,
    PairLoss,
    ProxyAnchorLoss,
    ProxyNCALoss,
    RankedListLoss,
    SemiHardTripletLoss,
    SupervisedContrastiveLoss,
    TripletLoss,
    WeightedPairLoss,
)
from dml.losses.mining import RelativeMining
from dml.losses.weighting import MultiSimilarityWeighting

DIM = 5
FACTORIES: dict[str, Callable[[], PairLoss]] = {
    "contrastive": lambda: ContrastiveLoss(0.2),
    "triplet": lambda: TripletLoss(0.3),
    "triplet_all": lambda: TripletLoss(0.3, average="all"),
    "triplet_semi_hard": lambda: SemiHardTripletLoss(0.3),
    "triplet_batch_hard": lambda: BatchHardTripletLoss(0.3),
    "lifted_structure": lambda: LiftedStructureLoss(-1.5),
    "binomial_deviance": lambda: BinomialDevianceLoss(),
    "n_pair": lambda: NPairLoss(),
    "margin": lambda: MarginLoss(num_classes=20, nu=0.1),
    "ranked_list": lambda: RankedListLoss(),
    "circle": lambda: CircleLoss(),
    "supervised_contrastive": lambda: SupervisedContrastiveLoss(),
    "multi_similarity": lambda: MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1),
    "multi_similarity_unmined": lambda: MultiSimilarityLoss(2.0, 40.0, 0.5, None),
    "general": lambda: GeneralWeightingLoss(RelativeMining(), MultiSimilarityWeighting()),
    "general_euclidean": lambda: GeneralWeightingLoss(RelativeMining(), MultiSimilarityWeighting(), True),
    "from_weights": lambda: WeightedPairLoss(torch.ones_like, torch.exp),
    "proxy_nca": lambda: ProxyNCALoss(20, DIM),
    "proxy_anchor": lambda: ProxyAnchorLoss(20, DIM),
}


def make(name: str) -> PairLoss:
    """In float64, with the same parameters each time."""
    torch.manual_seed(0)
    return FACTORIES[name]().double()
