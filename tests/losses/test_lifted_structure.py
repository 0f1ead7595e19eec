import torch
from loss_cases import assert_equals_loop, assert_same, from_yaml, random_batch
from pytorch_metric_learning import distances, losses, reducers
from torch import Tensor

from dml.losses import LiftedStructureLoss


def row(S: Tensor, positives: list[int], negatives: list[int]) -> Tensor:
    if not positives or not negatives:
        return 0 * S.sum()
    positive = torch.log(sum(torch.exp(-1.5 - S[j]) for j in positives))
    return (positive + torch.log(sum(torch.exp(S[j]) for j in negatives))).relu()


def test_equals_a_loop_over_pairs() -> None:
    # λ = −1.5 opens some hinges and closes others.
    assert_equals_loop(LiftedStructureLoss(-1.5), row)


def test_agrees_with_pytorch_metric_learning() -> None:
    z, _ = random_batch(0)
    peer = losses.GeneralizedLiftedStructureLoss(
        neg_margin=0, pos_margin=0.7, distance=distances.CosineSimilarity(), reducer=reducers.MeanReducer()
    )
    # The peer counts an anchor without positives as if their sum were 1; here each class has three images.
    assert_same(LiftedStructureLoss(0.7), peer, z, torch.arange(12) % 4)


def test_yaml() -> None:
    assert from_yaml("loss/lifted_structure").lam == 1.0
