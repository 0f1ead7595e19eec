"""A key that nothing reads and a value that its reader does not take are one sentence that names the key."""

import math

import pytest
from omegaconf import OmegaConf, open_dict

from dml.config.build import try_out
from dml.config.check import check_config
from dml.errors import Note, UserError

BOOLEANS = {
    "model.freeze_batchnorm": (),
    "dataset.download": (),
    "dataset.split.download": ("dataset=omniglot",),
    "baselines": (),
    "data.pin_memory": (),
    "callbacks.recall.nmi": (),
    "loss.euclidean": ("loss=general", "mining=all", "weighting=linear"),
    "trainer.deterministic": (),
    "trainer.use_distributed_sampler": (),
    "logger.wandb.offline": ("logger=wandb",),
}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=-1", "seed=-1 must be greater than or equal to 0."),
        ("seed=4294967296", "seed=4294967296 must be less than 4294967296."),
        ("seed=x", "seed=x must be a valid integer."),
        ("resume=yes", "resume=yes must be 'auto'."),
        ("sampler.classes_per_batch=two", "sampler.classes_per_batch=two must be a valid integer or 'auto'."),
        (
            "sampler.classes_per_batch=1",
            "sampler.classes_per_batch=1 must be greater than or equal to 2 or 'auto'.",
        ),
        ("sampler.images_per_class=2.5", "sampler.images_per_class=2.5 must be a valid integer or 'auto'."),
        ("sampler.steps_per_epoch=0", "sampler.steps_per_epoch=0 must be greater than 0."),
        ("data.eval_batch_size=0", "data.eval_batch_size=0 must be greater than 0."),
        ("data.num_workers=-1", "data.num_workers=-1 must be greater than or equal to 0."),
        ("trainer.max_steps=0", "trainer.max_steps=0 must be greater than 0."),
        ("dataset.max_steps=0", "dataset.max_steps=0 must be greater than 0."),
        ("trainer.val_check_interval=0.5", "trainer.val_check_interval=0.5 must be a valid integer."),
        ("trainer.max_steps=true", "trainer.max_steps=true must be a valid integer."),
        ("optimizer.lr=fast", "optimizer.lr=fast must be a valid number."),
        ("optimizer.lr=-1", "optimizer.lr=-1 must be greater than or equal to 0."),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1 must be greater than or equal to 0."),
        ("+optimizer.betas=[0.9,x]", "optimizer.betas[1]=x must be a valid number."),
        ("lr_factors.head=much", "lr_factors.head=much must be a valid number."),
        ("loss.lambda=abc", "loss.lambda=abc must be a valid number."),
        ("loss.alpha=true", "loss.alpha=true must be a valid number."),
        ("loss.alpha=null", "loss.alpha=null must be a valid number."),
        ("scheduler.gamma=abc", "scheduler.gamma=abc must be a valid number."),
        ("scheduler.milestones=0.5", "scheduler.milestones=0.5 must be a list."),
        ("model.embedding_dim=big", "model.embedding_dim=big must be a valid integer."),
        ("model.embedding_dim=2.5", "model.embedding_dim=2.5 must be a valid integer."),
        ("trainer.log_every_n_steps=often", "trainer.log_every_n_steps=often must be a valid integer."),
        ("protocol=all", "protocol=all must be 'paper' or 'holdout'."),
        ("dataset.test_share=half", "dataset.test_share=half must be a valid number."),
        ("dataset.recall_at=[]", "dataset.recall_at=[] must have at least 1 item"),
        ("dataset.recall_at=[0,1]", "dataset.recall_at[0]=0 must be greater than 0."),
        ("dataset.recall_at=1", "dataset.recall_at=1 must be a list."),
        ("dataset.recall_at=[2,4]", "dataset.recall_at=[2, 4] must contain 1: "),
        (
            "callbacks.best_checkpoint.monitor=val/recall_at_3",
            "callbacks.best_checkpoint.monitor=val/recall_at_3 is not measured in validation: take one of ",
        ),
        ("callbacks.recall.ks=[2]", "dataset.recall_at=[2] must contain 1: "),
        ("callbacks.recall=null", "callbacks.recall chooses the checkpoint that is tested: keep it"),
        ("callbacks.best_checkpoint=null", "callbacks.best_checkpoint chooses the checkpoint that is tested"),
        (
            "callbacks.best_checkpoint.monitor=null",
            "callbacks.best_checkpoint.monitor=null must be a valid string.",
        ),
        (
            "dataset.root=null",
            "dataset.root is not set: give the folder that holds the images;",
        ),
        ("dataset.root=", "dataset.root is not set: give the folder"),
        (
            "dataset.root=2024",
            "dataset.root=2024 must be a valid string; a name that looks like a number, or",
        ),
        ("dataset.test_classes=bird", "dataset.test_classes=bird must be a list."),
        ("dataset.test_classes=7", "dataset.test_classes=7 must be a list."),
        (
            "dataset.test_classes=[a,1.10]",
            "dataset.test_classes[1]=1.1 must be a valid string or a valid integer; a",
        ),
        ("dataset.test_classes=[true]", "dataset.test_classes[0]=true must be a valid string"),
        ("data.cache_dir=null", "data.cache_dir=null must be a valid string."),
        ("data.cache_dir=", "data.cache_dir= must have at least 1 character."),
        ("model=torchvision", "model.name is missing: give it on the command line"),
        ("loss._target_=dml.losses.Lost", "loss._target_=dml.losses.Lost cannot be found: "),
        ("dataset.root=${oc.env:NOT_SET_ANYWHERE}", "dataset.root: KeyError raised while resolving"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(compose, override, said):
    with pytest.raises(UserError) as caught:
        check_config(compose("dataset=folder", override))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "override",
    [
        "loss.epsilon=nan",
        "loss.alpha=inf",
        "loss.alpha=-inf",
        "optimizer.lr=1e400",
        "lr_factors.head=nan",
        "scheduler.milestones=[nan]",
        "callbacks.retrieval_grid.queries=inf",
        "dataset.train_transform.degrees=nan",
    ],
)
def test_a_number_that_is_not_finite_is_named(compose, override):
    key = override.partition("=")[0]
    with pytest.raises(UserError, match=rf"^{key}=.* must be finite"):
        check_config(compose(override))


def test_an_infinity_in_a_yaml_is_named_too(compose):
    config = compose()
    config.merge_with(OmegaConf.create("{lr_factors: {head: .nan}}"))
    assert math.isnan(config.lr_factors.head)
    with pytest.raises(UserError, match=r"lr_factors\.head=nan must be finite"):
        check_config(config)


@pytest.mark.parametrize("key", BOOLEANS)
def test_a_boolean_is_what_a_person_means(compose, key):
    composed = compose(*BOOLEANS[key], f"{key}=no")
    words: dict[object, bool] = {"no": False, "On": True}
    if key == "baselines":
        words |= {"off": False, "n": False, 0: False, "yes": True, "y": True, 1: True}
    for word, meant in words.items():
        config = composed.copy()
        OmegaConf.update(config, key, word)
        check_config(config)
        assert OmegaConf.select(config, key) is meant
    with pytest.raises(UserError, match=rf"^{key}=maybe must be a valid boolean"):
        check_config(compose(*BOOLEANS[key], f"{key}=maybe"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"protcol": "holdout"}, "There is no key protcol: nothing reads it"),
        ({"see": 1}, "There is no key see: nothing reads it"),  # though ${seed} begins so
        ({"modle": {"pool": "sum"}}, "There is no key modle: nothing reads it"),
        ({"dataset": {"rot": "data"}}, "There is no key dataset.rot: nothing reads it"),
        ({"dataset": {"roo": "data"}}, "There is no key dataset.roo: nothing reads it"),
        ({"dataset": {"test_share": 0.5}}, "There is no key dataset.test_share: nothing reads it"),
        ({"lr_factors": {"hed": 2}}, "There is no key lr_factors.hed: nothing reads it"),
        (
            {"loss": {"alhpa": 2}},
            "There is no key loss.alhpa: did you mean loss.alpha? dml.losses.MultiSimilarityLoss takes alpha, beta,",
        ),
        ({"model": {"name": "resnet18"}}, "There is no key model.name: dml.models.convnet_embedder takes"),
        ({"memory": {"size": 300}}, "There is no key memory.size: nothing reads it"),
        ({"callbacks": {"recal": {"nmi": False}}}, "There is no key callbacks.recal: nothing reads it"),
        ({"data": {"trainer": 1}}, "There is no key data.trainer: "),
        ({"sampler": {"seed": 1}}, "sampler.seed is filled in by the run itself: leave it out."),
        ({"sampler": {"rank": 0}}, "sampler.rank is filled in by the run itself: leave it out."),
        ({"trainer": {"callbacks": None}}, "trainer.callbacks is filled in by the run itself: leave it out."),
        ({"trainer": {"logger": False}}, "trainer.logger is filled in by the run itself: leave it out."),
        ({"optimizer": {"params": []}}, "optimizer.params is filled in by the run itself: leave it out."),
    ],
)
def test_a_key_that_nothing_reads_is_named(compose, override, said):
    config = compose()
    with open_dict(config):
        config.merge_with(override)
    with pytest.raises(UserError) as caught:
        check_config(config)
    assert str(caught.value).startswith(said)


def test_an_experiments_misspelling_is_refused(compose, tmp_path):
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\nprotcol: holdout\n")
    with pytest.raises(UserError, match="protcol"):
        check_config(compose(f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "experiment=mine"))


def test_a_key_that_another_value_refers_to_is_read(compose):
    overrides = (
        "+width=2",
        "+dataset.most=3",
        "model.blocks=${width}",
        "sampler.steps_per_epoch=${dataset.most}",
    )
    check_config(compose(*overrides))


def test_a_users_own_dataset_and_loss_are_a_file_and_a_yaml_each(compose, tmp_path, monkeypatch):
    (tmp_path / "my_parts.py").write_text(
        "from dml.losses import ContrastiveLoss\n"
        "def load(pages: int, colour: bool = True): ...\n"
        "class MyLoss(ContrastiveLoss):\n"
        "    def __init__(self, lam: float, sharp: bool = False): super().__init__(lam)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for group in ("dataset", "loss"):
        (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "book.yaml").write_text(
        "name: book\nmax_steps: 5\nval_check_interval: 5\nroot: null\nchannels: 1\nrecall_at: [1]\npages: 3\n"
        "split: {_target_: my_parts.load, _partial_: true, pages: '${dataset.pages}'}\n"
        "train_transform: null\neval_transform: null\nextra_classes: null\n"
    )
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text(
        "_target_: my_parts.MyLoss\nlambda: 0.5\nsharp: off\n"
    )
    mine = (f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "dataset=book", "loss=mine")
    check_config(compose(*mine, "dataset.pages=4"))
    try_out(compose(*mine))
    for wrong in ("dataset.pages=many", "loss.sharp=perhaps", "loss.lambda=x"):
        with pytest.raises(UserError, match=f"^{wrong} must be"):
            check_config(compose(*mine, wrong))


@pytest.mark.parametrize(
    "overrides",
    [
        ("mining=relative",),
        ("weighting=linear",),
        ("loss=margin", "mining=relative"),
        ("loss=from_weights", "mining=relative"),
        ("loss=from_weights", "mining=relative", "weighting=linear", "loss.mining=${mining}"),
    ],
)
def test_a_mining_or_a_weighting_that_the_loss_does_not_read_is_refused(compose, overrides):
    with pytest.raises(UserError, match=r"(mining|weighting)=… changes nothing"):
        check_config(compose(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss=general", "mining=top_k", "weighting=linear"),
        ("loss=from_weights", "mining=relative", "loss.mining=${mining}"),
        ("loss=margin", "memory=xbm"),
        ("loss=margin", "regularizer=spherical", "regularizer.eta=0.5"),
        ("loss=proxy_anchor", "loss.chunk=null", "lr_factors.loss=100"),
        ("model.embedding_dim=null",),
        ("dataset=folder", "dataset.test_classes=[a,7,007]"),
        ("dataset=manifest",),
        ("dataset=omniglot_small",),
        ("callbacks.retrieval_grid=null", "logger=wandb"),
        ("+trainer.max_time={hours: 1}",),
    ],
)
def test_what_is_meant_passes(compose, overrides):
    config = compose(*overrides)
    check_config(config)
    try_out(config)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("loss.alpha=-1",), r"loss\.alpha"),
        (("loss=proxy_anchor", "loss.alpha=-1"), r"loss\.alpha"),
        (("loss.chunk=0",), r"loss\.chunk=0"),
        (("loss=general", "weighting=linear"), "needs both halves"),
        (("memory=xbm", "memory.size=0"), r"memory\.size=0"),
        (("regularizer=spherical", "regularizer.eta=-1"), r"regularizer\.eta must not be negative"),
        (("memory=xbm", "sampler.scope=local"), r"sampler\.scope=global"),
        (("+optimizer.betas=[2,0.9]",), "optimizer or scheduler: Invalid beta"),
        (("scheduler.milestones=[1.5]",), "scheduler.milestones: 1.5 must be a step"),
    ],
)
def test_a_value_out_of_range_is_refused_without_a_dataset(compose, overrides, said):
    with pytest.raises(UserError, match=said):
        try_out(compose(*overrides))


@pytest.mark.parametrize(
    "overrides", [("lr_factors.loss=100",), ("lr_factors.head=2", "model.embedding_dim=null")]
)
def test_a_factor_on_nothing_is_noted(compose, overrides):
    with pytest.warns(Note, match=rf"{overrides[0]}\S* changes nothing"):
        try_out(compose(*overrides))


def test_a_local_scope_with_one_process_is_noted(compose):
    with pytest.warns(Note, match=r"sampler\.scope=local is the same as global"):
        check_config(compose("sampler.scope=local"))


def test_nothing_is_read_before_the_configuration_is_checked(compose, tmp_path):
    from dml.runs.training import train

    for wrong in ("loss.alpha=-1", "model.pool=median", "optimizer.lr=nan"):
        with pytest.raises(UserError, match=wrong.partition("=")[0]):
            train(compose("dataset=folder", f"dataset.root={tmp_path / 'nowhere'}", "model=convnet", wrong))
