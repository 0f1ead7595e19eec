"""Cross-batch memory: what it holds, when it begins, whom an anchor meets."""

import pytest
import torch
from loss_cases import from_yaml
from torch.nn import functional as F

from dml.errors import UserError
from dml.losses import MultiSimilarityLoss
from dml.losses.memory import CrossBatchMemory


def unit(*rows: float) -> torch.Tensor:
    angle = torch.tensor(rows)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_the_oldest_slots_are_overwritten_first():
    memory = CrossBatchMemory(size=5, start=0, embedding_dim=2, max_steps=100)
    for labels in ([0, 1], [2, 3], [4, 5]):
        memory.add(unit(*map(float, labels)), torch.tensor(labels))
    assert memory.labels.tolist() == [5, 1, 2, 3, 4]
    assert torch.allclose(memory.embeddings, unit(5.0, 1.0, 2.0, 3.0, 4.0))


def test_a_batch_larger_than_the_memory_leaves_its_last_embeddings():
    memory = CrossBatchMemory(size=2, start=0, embedding_dim=2, max_steps=100)
    memory.add(unit(0.0, 1.0, 2.0), torch.tensor([0, 1, 2]))
    assert sorted(memory.labels.tolist()) == [1, 2]


def test_it_begins_after_its_start_and_never_holds_the_current_batch():
    memory = CrossBatchMemory(size=8, start=2, embedding_dim=2, max_steps=100)
    for step in range(4):
        z_BD, label_B = unit(step + 0.0, step + 0.5), torch.tensor([step, step])
        references, labels = memory.references(z_BD, label_B)
        # Steps 0 and 1 are before the start; step 2 is the first that is kept, step 3 the first to see one.
        assert labels.tolist() == ([3, 3, 2, 2] if step == 3 else [step, step])
        assert torch.equal(references[:2], z_BD)
        memory.add(z_BD, label_B)


def test_gradients_reach_the_batch_as_anchor_and_reference_and_the_memory_not_at_all():
    torch.manual_seed(0)
    past, now = F.normalize(torch.randn(4, 3)), F.normalize(torch.randn(4, 3)).requires_grad_()
    label = torch.tensor([0, 0, 1, 1])
    memory = CrossBatchMemory(size=4, start=0, embedding_dim=3, max_steps=100)
    memory.add(past, label)
    loss = MultiSimilarityLoss(epsilon=None)
    loss(now, label, *memory.references(now, label), torch.arange(4)).backward()
    expected = now.detach().clone().requires_grad_()
    loss(expected, label, torch.cat([expected, past]), torch.cat([label, label]), torch.arange(4)).backward()
    assert torch.allclose(now.grad, expected.grad)
    assert not memory.embeddings.requires_grad


def test_the_content_travels_in_the_state():
    memory, copy = CrossBatchMemory(3, 0, 2, 100), CrossBatchMemory(3, 0, 2, 100)
    memory.add(unit(1.0, 2.0), torch.tensor([1, 2]))
    copy.load_state_dict(memory.state_dict())
    copy.add(unit(3.0, 4.0), torch.tensor([3, 4]))
    assert copy.labels.tolist() == [4, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_keeps_the_precision_of_the_network(dtype):
    memory = CrossBatchMemory(size=3, start=0, embedding_dim=2, max_steps=100).to(dtype)
    memory.add(unit(0.0, 1.0).to(dtype), torch.tensor([0, 1]))
    assert memory.embeddings.dtype == dtype
    assert torch.allclose(memory.embeddings[:2].double(), unit(0.0, 1.0).double(), atol=0.01)


@pytest.mark.parametrize(("start", "step"), [(0.0, 0), (0.1, 60), (0.5, 300), (2, 2), (598, 598)])
def test_the_start_is_a_share_of_the_run_or_a_step(start: float, step: int) -> None:
    assert CrossBatchMemory(8, start, 2, max_steps=600).start == step


def test_by_default_it_is_used_in_a_short_run() -> None:
    memory = from_yaml("memory/xbm", max_steps=20, size=8)(embedding_dim=2)
    z_BD, label_B = unit(0.0, 1.0), torch.tensor([0, 1])
    met = []
    for _ in range(20):
        met.append(len(memory.references(z_BD, label_B)[1]) - 2)
        memory.add(z_BD, label_B)
    assert met == [0, 0, 0, 2, 4, 6, *[8] * 14]


@pytest.mark.parametrize("start", [599, 1000])
def test_a_run_that_ends_before_the_memory_begins_is_refused(start: int) -> None:
    message = rf"memory\.start={start} is step {start} of 600, so the memory would never be used"
    with pytest.raises(UserError, match=message):
        CrossBatchMemory(8, start, 2, max_steps=600)


@pytest.mark.parametrize(("size", "start"), [(0, 0), (1, -1), (1, 1.5)])
def test_impossible_sizes_and_starts_are_refused(size: int, start: float) -> None:
    with pytest.raises(
        UserError, match=rf"memory\.size={size} must be at least 1, and memory\.start={start} a share"
    ):
        CrossBatchMemory(size, start, 2, 100)
