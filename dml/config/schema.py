"""The keys that the package itself reads: their types, and the least that each may be.

The keys of everything with a `_target_` are the arguments of that target; they need no line here.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

Several = Annotated[int, Field(ge=2)]


class Group:
    """A group of keys; its annotations are the keys."""


class Parts(Group):
    """A group of parts, each null or with a `_target_` of its own, under any name."""


class FilledIn:
    """What the package hands to a target itself."""


class LrFactors(Group):
    backbone: NonNegativeFloat
    head: NonNegativeFloat
    loss: NonNegativeFloat


class Loss(Group):
    chunk: int | Literal["auto"] | None
    num_classes: int | None  # null: filled in with the training classes


class Memory(Group):
    embedding_dim: FilledIn


class Sampler(Group):
    classes_per_batch: Several
    images_per_class: Several
    steps_per_epoch: PositiveInt | None
    scope: Literal["global", "local"]
    labels: FilledIn
    seed: FilledIn
    rank: FilledIn
    world_size: FilledIn


class Optimizer(Group):
    lr: NonNegativeFloat
    weight_decay: NonNegativeFloat
    params: FilledIn


class Scheduler(Group):
    optimizer: FilledIn


class Data(Group):
    eval_batch_size: PositiveInt
    num_workers: NonNegativeInt | None
    cache_dir: Annotated[str, Field(min_length=1)]


class Trainer(Group):
    max_steps: PositiveInt
    val_check_interval: PositiveInt
    log_every_n_steps: PositiveInt
    callbacks: FilledIn
    logger: FilledIn
    plugins: FilledIn


class Dataset(Group):
    """What every dataset has; any other key of a dataset is read by a `${dataset.…}` of its own yaml."""

    name: str
    root: str | None
    download: bool
    channels: Literal[1, 3]
    recall_at: Annotated[list[PositiveInt], Field(min_length=1)]
    max_steps: PositiveInt
    val_check_interval: PositiveInt
    split: Any
    resize: Any
    train_transform: Any
    eval_transform: Any
    extra_classes: Any


class Train(Group):
    """The whole of `conf/train.yaml`."""

    seed: NonNegativeInt
    protocol: Literal["paper", "holdout"]
    ckpt_path: str | None
    resume: Literal["auto"] | None
    baselines: bool
    run_dir: str
    lr_factors: LrFactors
    loss: Loss
    memory: Memory
    model: Any
    sampler: Sampler
    optimizer: Optimizer
    scheduler: Scheduler
    data: Data
    trainer: Trainer
    logger: Parts
    callbacks: Parts
    dataset: Dataset
