"""Values from the command line that would otherwise fail deep inside a library, looked at before anything is built."""

from omegaconf import DictConfig, ListConfig, OmegaConf

from dml.config.arguments import check_numbers
from dml.config.build import resolved
from dml.errors import UserError

# The least that each may be; null is left to whoever reads it.
WHOLE = {
    "seed": 0,
    "sampler.classes_per_batch": 2,
    "sampler.images_per_class": 2,
    "sampler.steps_per_epoch": 1,
    "data.eval_batch_size": 1,
    "data.num_workers": 0,
    "trainer.max_steps": 1,
    "trainer.val_check_interval": 1,
}
NUMBERS = (  # none below 0
    "optimizer.lr",
    "optimizer.weight_decay",
    "dataset.test_share",
    "lr_factors.backbone",
    "lr_factors.head",
    "lr_factors.loss",
)


def check_values(config: DictConfig) -> None:
    """Raise UserError that names a key whose value cannot be meant."""
    for key, least in WHOLE.items():
        value = OmegaConf.select(config, key)
        if value is not None and not _is_whole(value, least):
            raise UserError(f"{key}={value} must be a whole number, at least {least}.")
    for key in NUMBERS:
        value = OmegaConf.select(config, key)
        if value is not None and not (_is_number(value) and value >= 0):
            raise UserError(f"{key}={value} must be a number, at least 0.")
    ks = config.dataset.recall_at
    if not isinstance(ks, ListConfig) or not ks or not all(_is_whole(k, 1) for k in ks):
        raise UserError(
            f"dataset.recall_at={ks} must be a list of whole numbers, each at least 1, such as [1,10]."
        )
    chosen = OmegaConf.select(config, "dataset.test_classes")
    if chosen is not None and not isinstance(chosen, ListConfig):
        raise UserError(f"dataset.test_classes={chosen} must be a list, such as [{chosen}].")
    # What reads images from files has a root to be told; an empty one is a shell's variable that is not set.
    if OmegaConf.select(config, "dataset.split.root", default="none is needed") in (None, ""):
        raise UserError(
            f"dataset.root is not set: give the folder that holds the images of dataset={config.dataset.name}; "
            "docs/datasets.md says how to get them and where they go."
        )
    if not config.data.cache_dir:
        raise UserError("data.cache_dir is not set: give a folder for data.cache=disk, or leave it out.")

    groups = [str(key) for key in config if isinstance(config[key], DictConfig)]
    for group in sorted(groups, key="data".__eq__):  # data repeats the dataset, whose keys a person knows
        check_numbers(resolved(config[group]), group)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
