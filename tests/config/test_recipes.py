"""Every experiment and every study, found by its file, from its yaml to two steps of training."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_benchmarks import write_cars, write_cub, write_drawings, write_inshop, write_sop, write_tree
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn import functional as F

from dml.config.build import build_loss, try_out
from dml.config.check import check_config
from dml.config.cli import CONF
from dml.data.datasets import omniglot
from dml.data.split import Counts
from dml.losses import ContrastiveLoss, GeneralWeightingLoss, MultiSimilarityLoss
from dml.models import ConvNet, Embedder, Preprocessing
from dml.runs.training import train

Compose = Callable[..., DictConfig]
EXPERIMENTS = sorted(file.stem for file in Path(CONF, "experiment").glob("*.yaml"))
STUDIES = sorted(file.stem for file in Path(CONF, "study").glob("*.yaml"))
SIZES = Counts(train_classes=4, test_classes=3, train_images=12, query_images=9)
SHORT = (
    "trainer.accelerator=cpu",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=1",
    "report=false",
    "callbacks.retrieval_grid=null",
    "callbacks.recall.nmi=false",
)
SMALL = ("sampler.classes_per_batch=2", "sampler.images_per_class=2", "data.num_workers=0")
TINY = (*SHORT, *SMALL, "model=convnet", "model.blocks=1")


def images(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides for the folder of a module of `dml.data.datasets` as it is unpacked, with few images of few pixels."""
    benchmarks: dict[str, Callable[..., Path]] = {
        "cub": write_cub,
        "cars": write_cars,
        "sop": write_sop,
        "inshop": write_inshop,
    }
    if name in benchmarks:
        counts = SIZES._replace(gallery_images=6 if name == "inshop" else 0)
        benchmarks[name](root, counts)
        fields = ",".join(f"{field}:{size}" for field, size in counts._asdict().items())
        return [
            f"dataset.root={root}",
            f"+dataset.split.counts={{_target_:dml.data.split.Counts,{fields}}}",
        ]
    if name == "omniglot":
        monkeypatch.setitem(omniglot.ARCHIVES, "images_background_small1", (6, ""))
        monkeypatch.delitem(omniglot.PIXELS, "images_background_small1")
        write_drawings(root / "images_background_small1", {"A": 2, "B": 1, "C": 1, "D": 1, "E": 1})
    elif name == "caltech101":
        write_tree(root / "101_ObjectCategories", {f"c{i:02}": 2 for i in range(100)})
    else:
        assert name == "folder", f"no images for {name}: write some as it unpacks"
        write_tree(root, {f"c{i}": 3 for i in range(8)})
    return [f"dataset.root={root}"]


class Coarse(ConvNet):
    """A small network that sees images of any size as 8×8 pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(F.adaptive_avg_pool2d(images, 8))


def coarse_embedder(in_channels: int, embedding_dim: int | None) -> Embedder:
    preprocessing = Preprocessing([0.0] * in_channels, [1.0] * in_channels)
    return Embedder(Coarse(in_channels, blocks=1), preprocessing, embedding_dim, "max")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_trains_on_the_layout_of_its_images(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    chosen = compose(f"experiment={name}", f"dataset.root={tmp_path}")
    check_config(chosen)
    try_out(chosen)
    module = chosen.dataset.split._target_.split(".")[-2]
    places = images(module, tmp_path / "data", monkeypatch)
    config = compose(f"experiment={name}", *SHORT, *SMALL, *places, f"protocol={chosen.protocol}")
    # Keys that the experiment gives its own network are none of the small one's.
    config.model = {
        "_target_": f"{__name__}.coarse_embedder",
        "in_channels": "${dataset.channels}",
        "embedding_dim": chosen.model.embedding_dim,
        "freeze": None,
    }
    figures = train(config)
    assert figures["steps"] == 2
    assert 0 <= figures["test/recall_at_1"] <= 1
    assert set(chosen.published or {}) <= {"source", "recall_at_1_sd", "recall_at_1_in_abstract"} | {
        key.removeprefix("test/") for key in figures
    }


@pytest.mark.parametrize(
    ("group", "name"), [("experiment", n) for n in EXPERIMENTS] + [("study", n) for n in STUDIES]
)
def test_the_first_lines_say_how_it_is_run(group: str, name: str) -> None:
    head = " ".join(
        line.lstrip("# ")
        for line in Path(CONF, group, f"{name}.yaml").read_text().splitlines()
        if line[:1] == "#"
    )
    assert f"{group}={name} " in head
    assert ("Estimate, not measured" in head) or "Time:" in head
    if group == "experiment":
        assert "Recall@1 to expect" in head or "accuracy to expect" in head
        assert "Reproduced here" in head


def study(name: str, *overrides: str) -> DictConfig:
    """What `study=name` composes to, Hydra's own keys included."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return hydra_compose("train", [f"study={name}", *overrides], return_hydra_config=True)


def grid(name: str) -> dict[str, list[str]]:
    """The values of each key that a study sweeps."""
    params = study(name).hydra.sweeper.params
    typed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return {o.get_key_element(): list(map(str, o.sweep_string_iterator())) for o in typed}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_sweeps_by_itself_over_three_seeds(name: str) -> None:
    assert study(name).hydra.mode.name == "MULTIRUN"
    values = grid(name)
    assert values["seed"] == ["0", "1", "2"]
    cells = itertools.product(*(of for key, of in values.items() if key != "seed"))
    assert 1 < len(list(cells)) < 50
    assert all(len(set(of)) == len(of) for of in values.values())


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_sets_the_loss_and_nothing_else(compose: Compose, name: str) -> None:
    ground = ("experiment=cub_ms_musgrave", "dataset.root=somewhere")
    without, within = (OmegaConf.to_container(compose(*ground, *more)) for more in ((), (f"study={name}",)))
    assert isinstance(without, dict)
    assert isinstance(within, dict)
    assert {key for key in within if within[key] != without[key]} <= {"loss", "mining", "weighting"}
    # The experiment's own loss has other values; they are not the study's.
    assert within["loss"].get("alpha", 2.0) == 2.0


@pytest.mark.parametrize("name", STUDIES)
def test_a_studys_last_cell_trains(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    places = images("omniglot", tmp_path / "data", monkeypatch)
    cell = [f"{key}={values[-1]}" for key, values in grid(name).items()]
    ground = "experiment=omniglot_small_convnet"
    assert train(compose(ground, f"study={name}", *TINY, *places, *cell))["steps"] == 2


@pytest.mark.parametrize("name", STUDIES)
def test_each_value_of_a_study_is_accepted(compose: Compose, name: str) -> None:
    config = compose(f"study={name}")
    for key, values in grid(name).items():
        for value in values:
            if Path(CONF, key).is_dir():  # each option of a group is built in test_conf.py
                assert Path(CONF, key, f"{value}.yaml").is_file()
            else:
                OmegaConf.update(config, key, yaml.safe_load(value), force_add=False)
                check_config(config)
                try_out(config)


def test_the_ablation_turns_mining_and_weighting_on_and_off(compose: Compose) -> None:
    def built(cell: str) -> Any:
        return build_loss(compose("study=w19_ablation", f"loss={cell}").loss, 5)

    both, mining, weighting, neither = map(
        built, ("ms", "ms_mining_only", "ms_weighting_only", "contrastive")
    )
    assert isinstance(both, MultiSimilarityLoss)
    assert isinstance(weighting, MultiSimilarityLoss)
    assert isinstance(mining, GeneralWeightingLoss)
    assert isinstance(neither, ContrastiveLoss)
    assert (both.alpha, both.beta, both.lam) == (weighting.alpha, weighting.beta, weighting.lam)
    assert (both.epsilon, weighting.epsilon) == (mining.mining.epsilon, None)
    assert mining.weighting.lam == neither.lam
