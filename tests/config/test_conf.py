"""Every yaml composes, and what it describes can be built."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import ConfigCompositionException

from dml.config.build import build, build_loss, build_trainer
from dml.config.cli import CONF
from dml.errors import UserError
from dml.losses import GeneralWeightingLoss


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (Path(CONF) / group).glob("*.yaml"))


# Experiments and studies are composed, and trained, in test_recipes.py.
ELSEWHERE = {"__pycache__", "experiment", "study"}
GROUPS = sorted(
    folder.name for folder in Path(CONF).iterdir() if folder.is_dir() and folder.name not in ELSEWHERE
)


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in options(group)])
def test_every_option_composes(compose, group, name):
    config = compose(f"{group}={name}")
    assert config.trainer.max_steps > 0


@pytest.mark.parametrize("name", [name for name in options("loss") if name != "general"])
def test_every_loss_is_built(compose, name):
    assert callable(build_loss(compose(f"loss={name}").loss, num_classes=5).per_anchor)


@pytest.mark.parametrize("name", [name for name in options("trainer") if name != "gpu"])
def test_every_trainer_is_built(compose, name):
    config = compose(f"trainer={name}")
    assert build_trainer(config).max_steps == config.trainer.max_steps


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so nothing is wrong")
def test_a_missing_gpu_is_one_sentence(compose):
    with pytest.raises(UserError, match="gpu"):
        build_trainer(compose("trainer=gpu"))


def test_the_papers_symbols_are_the_keys(compose):
    loss = build_loss(
        compose("loss=ms", "loss.alpha=1", "loss.beta=3", "loss.lambda=0.25", "loss.epsilon=null").loss, 5
    )
    assert (loss.alpha, loss.beta, loss.lam, loss.epsilon) == (1, 3, 0.25, None)


def test_the_general_loss_needs_both_its_halves(compose):
    with pytest.raises(UserError, match="needs both halves: add mining="):
        build_loss(compose("loss=general", "weighting=linear").loss, 5)


def test_any_mining_goes_with_any_weighting(compose):
    def half(group: str, name: str) -> Any:
        whole = compose("loss=general", "mining=all", "weighting=constant", f"{group}={name}")
        return getattr(build_loss(whole.loss, 5), group)

    weightings = [half("weighting", name) for name in options("weighting")]
    for mining in [half("mining", name) for name in options("mining")]:
        for weighting in weightings:
            z_BD, label_B = torch.randn(8, 4, requires_grad=True), torch.arange(8) // 2
            GeneralWeightingLoss(mining, weighting)(z_BD, label_B).backward()
            assert z_BD.grad.isfinite().all()


def test_a_misspelt_key_is_an_error(compose):
    with pytest.raises(ConfigCompositionException, match="alhpa"):
        compose("loss.alhpa=1")


def test_a_key_that_nothing_reads_is_an_error(compose):
    with pytest.raises(UserError, match="gamma"):
        build_loss(compose("+loss.gamma=1").loss, 5)


def test_a_bad_value_names_its_key(compose):
    with pytest.raises(UserError, match=r"loss\.alpha"):
        build_loss(compose("loss.alpha=-1").loss, 5)


def test_a_dataset_brings_its_recipe_and_the_command_line_has_the_last_word(compose):
    assert compose("dataset=cars").model["_target_"].endswith("bninception_embedder")
    assert compose("dataset=cars", "model=convnet").model["_target_"].endswith("convnet_embedder")


RECIPES = {  # batch, learning rates of head and backbone, weight decay, steps, steps at which the rates fall
    "cub_ms_released": (80, 3e-5, 3e-5, 5e-4, 3000, [1200, 2400]),
    "cub_ms_dyfine": (120, 1e-5, 5e-6, 2.5e-3, 8000, [3000, 6000]),
    "cars_ms_dyfine": (120, 2e-5, 2e-5, 2.5e-3, 8000, [2000]),
    "cub_ms_sec_dyfine": (120, 1e-5, 5e-6, 2.5e-3, 8000, [3000, 6000]),
    "cars_ms_sec_dyfine": (120, 2e-5, 2e-5, 2.5e-3, 8000, [2000]),
    "sop_ms_sec_dyfine": (120, 2.5e-4, 5e-5, 1e-5, 12000, [6000]),
    "inshop_ms_sec_dyfine": (120, 5e-4, 1e-4, 1e-5, 12000, [6000]),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_published_recipe_has_the_published_values(compose, name):
    batch, head, backbone, weight_decay, steps, drops = RECIPES[name]
    config = compose(f"experiment={name}")
    assert config.sampler.classes_per_batch * config.sampler.images_per_class == batch
    assert config.sampler.images_per_class == 5
    assert config.optimizer.lr * config.lr_factors.head == pytest.approx(head)
    assert config.optimizer.lr * config.lr_factors.backbone == pytest.approx(backbone)
    assert (config.optimizer.weight_decay, config.trainer.max_steps) == (weight_decay, steps)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    assert sorted(build(config.scheduler)(optimizer).milestones) == drops
    assert [config.loss[key] for key in ("alpha", "beta", "lambda", "epsilon")] == [2, 40, 0.5, 0.1]
    assert ("regularizer" in config) == ("_sec_" in name)


def test_a_loss_is_in_chunks_by_itself_where_its_batch_is_very_large(compose):
    assert build_loss(compose().loss, 5).chunk == "auto"
    assert build_loss(compose("loss.chunk=null").loss, 5).chunk is None
    assert build_loss(compose("loss.chunk=1024").loss, 5).chunk == 1024
    with pytest.raises(UserError, match=r"loss\.chunk=0 must be at least 1"):
        build_loss(compose("loss.chunk=0").loss, 5)
