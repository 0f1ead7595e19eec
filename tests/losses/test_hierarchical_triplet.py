import pytest
import torch
from loss_cases import assert_same, batches, random_batch, similarity_and_pairs
from torch import Tensor, nn

from dml.losses import HierarchicalTripletLoss, TripletLoss
from dml.losses.hierarchical_triplet import class_tree, linked_distance

BETA, LEVELS = 0.1, 6
CASES = batches()


def mean(terms: list[float]) -> float:
    return sum(terms) / len(terms) if terms else 0.0


class NaiveLoss(nn.Module):
    """The paper's formulas pair by pair, level by level and triplet by triplet."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        z = z / z.norm(dim=1, keepdim=True)
        squared = (z[:, None] - z[None, :]).square().sum(dim=2)
        label, total = y.tolist(), 0 * z.sum()
        margin = self.margins(squared.tolist(), label)
        for a in range(len(z)):
            positives = [p for p in range(len(z)) if p != a and label[p] == label[a]]
            negatives = [n for n in range(len(z)) if label[n] != label[a]]
            terms = [
                squared[a, p] - squared[a, n] + BETA + margin[label[a], label[n]]
                for p in positives
                for n in negatives
            ]
            total = total + (torch.stack(terms).relu().mean() / 2 if terms else 0)
        return total / len(z)

    def margins(self, squared: list[list[float]], label: list[int]) -> dict[tuple[int, int], float]:
        images = {c: [i for i in range(len(label)) if label[i] == c] for c in set(label)}
        spread = {
            c: mean([squared[i][j] for i in own for j in own if i != j])
            for c, own in images.items()
            if len(own) > 1
        }
        d_0 = mean(list(spread.values()))
        node = {c: c for c in images}
        margin: dict[tuple[int, int], float] = {}
        for level in range(LEVELS + 1):
            d_l = d_0 + level * (4 - d_0) / LEVELS
            for p in images:
                for q in images:
                    if mean([squared[i][j] for i in images[p] for j in images[q]]) <= d_l + 1e-9:
                        node = {c: node[p] if n == node[q] else n for c, n in node.items()}
            for p in images:
                for q in images:
                    if node[p] == node[q]:
                        margin.setdefault((p, q), d_l - spread.get(p, d_0))
        return margin


@pytest.mark.parametrize("name", CASES)
def test_equals_a_loop_over_levels_and_triplets(name: str) -> None:
    assert_same(HierarchicalTripletLoss(BETA, LEVELS), NaiveLoss(), *CASES[name])


def test_a_worked_example() -> None:
    # Within a class squared distances are 2, between the classes 4, 2, 2, 4. So s = d_0 = 2 and d(a, b) = 3. With
    # L = 3 the thresholds are 2, 2⅔, 3⅓ and 4, and the margin is 0.1 + 3⅓ − 2. Of an anchor's two triplets that with
    # the opposite negative is inactive.
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    y = torch.tensor([7, 7, 9, 9])
    value = HierarchicalTripletLoss(0.1, levels=3)(z, y)
    assert value.item() == pytest.approx((0.1 + 4 / 3) / 2 / 2)
    # With L = 2 the distance 3 is a threshold itself.
    assert HierarchicalTripletLoss(0.1, levels=2)(z, y).item() == pytest.approx(1.1 / 2 / 2)


def test_classes_merge_through_chains_of_close_classes() -> None:
    distance = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    assert linked_distance(distance).tolist() == [[0, 1, 2], [1, 0, 2], [2, 2, 0]]


def test_gradient_of_rows_is_that_of_finite_differences() -> None:
    loss = HierarchicalTripletLoss(BETA, LEVELS)
    z, y = random_batch(1)
    loss(z, y)
    similarity, pairs = similarity_and_pairs(z, y)
    S = similarity.requires_grad_()
    assert torch.autograd.gradcheck(lambda S: loss.per_anchor(S, pairs), S)


def test_the_tree_is_of_all_references_and_does_not_depend_on_the_anchors() -> None:
    loss = HierarchicalTripletLoss(BETA, LEVELS)
    z, y = random_batch(2, size=30)
    loss(z[:4], y[:4], z, y, torch.arange(4))
    tree = class_tree(z, y, LEVELS)
    assert loss.tree is not None
    assert torch.equal(loss.tree.margin, tree.margin)
    assert len(class_tree(z[:4], y[:4], LEVELS).classes) < len(tree.classes)
    # A class that is not among the references has no place in it.
    there, unknown = torch.tensor([0, 1]), torch.tensor([-1, 99])
    assert tree.between(there, unknown).eq(0).all()
    assert tree.between(there, there).tolist() == tree.margin[:2, :2].tolist()


def test_without_a_tree_the_margin_is_constant() -> None:
    similarity, pairs = similarity_and_pairs(*CASES["random"])
    rows = HierarchicalTripletLoss(0.2).per_anchor(similarity, pairs)
    torch.testing.assert_close(rows, TripletLoss(0.1, average="all").per_anchor(similarity, pairs))


def test_margin_and_levels_must_be_positive() -> None:
    for beta, levels in ((0.0, 16), (0.1, 0)):
        with pytest.raises(ValueError, match=rf"positive, not {beta} and {levels}"):
            HierarchicalTripletLoss(beta, levels)
