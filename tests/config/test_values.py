"""Values of the wrong kind are one sentence that names the key."""

import pytest

from dml.config.values import check_values
from dml.errors import UserError


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=-1", "seed=-1 must be a whole number, at least 0."),
        ("seed=x", "seed=x must be a whole number"),
        (
            "sampler.classes_per_batch=two",
            "sampler.classes_per_batch=two must be a whole number, at least 2.",
        ),
        ("sampler.images_per_class=2.5", "sampler.images_per_class=2.5 must be a whole number"),
        ("sampler.steps_per_epoch=0", "sampler.steps_per_epoch=0 must be a whole number, at least 1."),
        ("data.eval_batch_size=0", "data.eval_batch_size=0 must be a whole number, at least 1."),
        ("data.num_workers=-1", "data.num_workers=-1 must be a whole number, at least 0."),
        ("trainer.max_steps=0", "trainer.max_steps=0 must be a whole number, at least 1."),
        ("trainer.val_check_interval=0.5", "trainer.val_check_interval=0.5 must be a whole number"),
        ("trainer.max_steps=true", "trainer.max_steps=True must be a whole number"),
        ("optimizer.lr=fast", "optimizer.lr=fast must be a number, at least 0."),
        ("optimizer.lr=-1", "optimizer.lr=-1 must be a number, at least 0."),
        ("optimizer.lr=nan", "optimizer.lr=nan must be a number, at least 0."),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1 must be a number, at least 0."),
        ("lr_factors.head=much", "lr_factors.head=much must be a number, at least 0."),
        ("loss.lambda=abc", "loss.lambda=abc must be a number."),
        ("loss.alpha=true", "loss.alpha=True must be a number."),
        ("scheduler.gamma=abc", "scheduler.gamma=abc must be a number."),
        ("model.embedding_dim=big", "model.embedding_dim=big must be a whole number."),
        ("model.embedding_dim=2.5", "model.embedding_dim=2.5 must be a whole number."),
        ("trainer.log_every_n_steps=often", "trainer.log_every_n_steps=often must be a whole number."),
        ("dataset.test_share=half", "dataset.test_share=half must be a number, at least 0."),
        ("dataset.recall_at=[]", "dataset.recall_at=[] must be a list of whole numbers"),
        ("dataset.recall_at=[0,1]", "dataset.recall_at=[0, 1] must be a list"),
        ("dataset.recall_at=1", "dataset.recall_at=1 must be a list"),
        (
            "dataset.root=null",
            "dataset.root is not set: give the folder that holds the images of dataset=folder;",
        ),
        ("dataset.test_classes=bird", "dataset.test_classes=bird must be a list, such as [bird]."),
        ("dataset.test_classes=7", "dataset.test_classes=7 must be a list, such as [7]."),
        ("dataset.root=", "dataset.root is not set: give the folder"),
        ("data.cache_dir=null", "data.cache_dir is not set: "),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(compose, override, said):
    with pytest.raises(UserError) as caught:
        check_values(compose("dataset=folder", override))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("dataset", ["digits", "folder", "sop"])
def test_what_the_datasets_bring_is_right(compose, dataset):
    check_values(compose(f"dataset={dataset}"))


@pytest.mark.parametrize("override", ["loss=margin", "loss=proxy_anchor", "mining=top_k", "memory=xbm"])
def test_null_and_what_is_filled_in_later_pass(compose, override):
    check_values(compose(override, "loss.chunk=null", "model.embedding_dim=null"))
