"""A key that nothing reads is one sentence that names it."""

import pytest
from omegaconf import open_dict

from dml.config.keys import check_keys
from dml.errors import UserError


@pytest.mark.parametrize(
    ("misspelt", "said"),
    [
        ({"protcol": "holdout"}, "There is no key protcol: nothing reads it"),
        ({"dataset": {"rot": "data"}}, "There is no key dataset.rot: nothing reads it"),
        ({"see": 1}, "There is no key see: nothing reads it"),  # though ${seed} begins so
        ({"dataset": {"roo": "data"}}, "There is no key dataset.roo: nothing reads it"),
        ({"lr_factors": {"hed": 2}}, "There is no key lr_factors.hed: nothing reads it"),
    ],
)
def test_a_key_that_nothing_reads_is_named(compose, misspelt, said):
    config = compose()
    with open_dict(config):
        config.merge_with(misspelt)
    with pytest.raises(UserError) as caught:
        check_keys(config)
    assert str(caught.value).startswith(said)


def test_an_experiments_misspelling_is_refused(compose, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nprotcol: holdout\n")
    config = compose(f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "experiment=mine")
    with pytest.raises(UserError, match="protcol"):
        check_keys(config)


def test_a_key_that_another_value_refers_to_is_read(compose):
    check_keys(
        compose(
            "+width=2", "+dataset.most=3", "model.blocks=${width}", "sampler.steps_per_epoch=${dataset.most}"
        )
    )


@pytest.mark.parametrize("dataset", ["cub", "digits", "folder", "manifest", "omniglot_small"])
def test_what_the_datasets_bring_is_read(compose, dataset):
    check_keys(compose(f"dataset={dataset}"))
