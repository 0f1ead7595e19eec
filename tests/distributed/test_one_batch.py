"""One batch on 1, 2 and 3 processes: the same loss, the same gradients, the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from worlds import in_world

from dml.config.build import build_loss
from dml.config.cli import CONF
from dml.distributed import gather, global_batch, mean_over_processes
from dml.losses import DistanceWeightedMining, MarginLoss, MultiSimilarityLoss, PairLoss
from dml.losses.spherical import SphericalConstraint

LOSSES = {file.stem: [f"loss={file.stem}"] for file in sorted((Path(CONF) / "loss").glob("*.yaml"))}
LOSSES["general"] += ["mining=distance_weighted", "weighting=logistic"]
LOSSES["margin in chunks"] = ["loss=margin", "loss.chunk=2"]
IMAGES, CLASSES, DIM = 13, 4, 8
MINED = {
    "relative": MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1),
    "distance-weighted": MarginLoss(mining=DistanceWeightedMining(DIM)),
}
SHARES = {1: [13], 2: [9, 4], 3: [7, 1, 5]}


class Network(nn.Module):
    """Two layers with a frozen batch norm between them, and the loss, as one module under DDP."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, DIM)
        self.loss = loss

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        z_BD = nn.functional.normalize(self.second(self.norm.eval()(self.first(image)).relu()))
        *references, weight = global_batch(z_BD, label)
        return self.loss(z_BD, label, *references) * weight


def network(config: DictConfig) -> Network:
    torch.manual_seed(0)
    return Network(build_loss(config.loss, CLASSES)).double()


def own_share(rows: Tensor) -> Tensor:
    return rows.split(SHARES[dist.get_world_size()])[dist.get_rank()]


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def learn(config: DictConfig) -> dict[str, Any]:
    """Loss and gradients of the first batch, weights after 10 batches."""
    generator = torch.Generator().manual_seed(1)
    label = torch.arange(IMAGES) % CLASSES
    module = network(config)
    model = DistributedDataParallel(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    found: dict[str, Any] = {}
    for step in range(10):
        image = torch.randn(IMAGES, 6, generator=generator, dtype=torch.float64)
        module.loss.seed = step
        loss = model(own_share(image), own_share(label))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            found |= {"loss": mean_over_processes(loss), "gradients": gradients(module)}
        optimizer.step()
    return found | {"weights": {key: value.clone() for key, value in module.state_dict().items()}}


def a_process_without_pairs(loss: PairLoss) -> dict[str, Any]:
    """The last five images are of a class far from all others and all alike: none of their pairs is mined."""
    torch.manual_seed(2)
    near, far = torch.randn(8, DIM).abs(), -torch.ones(5, DIM)
    z_ND = torch.cat([near, far]).double()
    label = torch.tensor([0, 1, 0, 1, 2, 2, 0, 1, 3, 3, 3, 3, 3])
    mine = own_share(z_ND).requires_grad_()
    *references, weight = global_batch(mine, own_share(label))
    loss.seed = 0
    value = loss(mine, own_share(label), *references) * weight
    (value / dist.get_world_size()).backward()
    return {"own": value.detach(), "loss": mean_over_processes(value), "gradient": gather(mine.grad)}


def lengths(local: bool) -> dict[str, Any]:
    """The spherical constraint on embeddings whose lengths differ most between the processes."""
    f_ND = torch.randn(IMAGES, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mine = own_share(f_ND * torch.arange(1, IMAGES + 1)[:, None]).requires_grad_()
    value = SphericalConstraint(0.5)(mine, local) * global_batch(mine, torch.arange(len(mine))).weight
    (value / dist.get_world_size()).backward()
    return {"loss": mean_over_processes(value), "gradient": gather(mine.grad)}


def gathers() -> dict[str, Any]:
    """Rows of every kind and number, none included."""
    at = dist.get_rank()
    return {
        "uneven": gather(torch.full((at, 2), float(at))),
        "flat": gather(torch.arange(3 - at)),
    }


def everything(folder: Path, configs: dict[str, DictConfig]) -> dict[str, Any]:
    found = {name: learn(config) for name, config in configs.items()}
    found |= {"lengths": lengths(local=False), "local lengths": lengths(local=True)}
    found |= {"gathers": gathers(), **{name: a_process_without_pairs(loss) for name, loss in MINED.items()}}
    return found


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> dict[int, list[dict[str, Any]]]:
    with initialize_config_dir(CONF, version_base="1.3"):
        configs = {
            name: compose("train", [f"model.embedding_dim={DIM}", *chosen]) for name, chosen in LOSSES.items()
        }
    return {
        size: in_world(size, tmp_path_factory.mktemp(f"world{size}"), everything, configs) for size in SHARES
    }


def largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max((ours[key] - theirs[key]).abs().max().item() for key in ours)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_and_weights_are_those_of_one_process(worlds, name, size):
    [one] = (found[name] for found in worlds[1])
    assert one["loss"] != 0
    assert max(g.abs().max() for g in one["gradients"].values()) > 1e-3
    for found in worlds[size]:
        assert abs(found[name]["loss"] - one["loss"]) < 1e-9
        assert largest_difference(found[name]["gradients"], one["gradients"]) < 1e-9
        assert largest_difference(found[name]["weights"], one["weights"]) < 1e-7


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", MINED)
def test_a_process_none_of_whose_pairs_is_mined_changes_nothing(worlds, name, size):
    one = worlds[1][0][name]
    assert one["loss"] > 0
    assert worlds[size][-1][name]["own"] == 0
    for found in worlds[size]:
        assert abs(found[name]["loss"] - one["loss"]) < 1e-9
        assert (found[name]["gradient"] - one["gradient"]).abs().max() < 1e-9


@pytest.mark.parametrize("size", [2, 3])
def test_lengths_are_pulled_to_the_mean_of_all_processes(worlds, size):
    one = worlds[1][0]["lengths"]
    for found in worlds[size]:
        assert abs(found["lengths"]["loss"] - one["loss"]) < 1e-9
        assert (found["lengths"]["gradient"] - one["gradient"]).abs().max() < 1e-9
        # Each to its own process's mean, they have less far to go.
        assert found["local lengths"]["loss"] < one["loss"] / 2


def test_rows_come_in_the_order_of_ranks_and_none_is_padding(worlds):
    for found in worlds[3]:
        assert found["gathers"]["uneven"].tolist() == [[1, 1], [2, 2], [2, 2]]
        assert found["gathers"]["flat"].tolist() == [0, 1, 2, 0, 1, 0]


def test_one_process_alone_needs_no_group():
    z_BD = torch.randn(4, 3)
    batch = global_batch(z_BD, torch.tensor([0, 0, 1, 1]))
    assert batch.embeddings is z_BD
    assert (batch.self_index.tolist(), batch.weight) == ([0, 1, 2, 3], 1.0)
