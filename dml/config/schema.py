"""The keys that the package itself reads, with their types and ranges.

A group with a `_target_` takes the arguments of that target; only what its signature does not say is listed here.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

PUBLISHED = (
    *(f"recall_at_{k}" for k in (1, 2, 4, 8, 10, 16, 20, 30, 32, 40, 50, 100, 1000)),
    *("map_at_r", "r_precision", "mrr", "nmi", "ami"),
)

# Keys of any model, in training alone: none of them is an argument of its target.
MODEL_IN_TRAINING: dict[str, Any] = {
    "freeze": Literal["backbone"] | PositiveInt | None,
    "checkpoint_gradients": bool,
    "channels_last": bool,
    "compile": bool,
}

AtLeastTwo = Annotated[int, Field(ge=2)]
Percent = Annotated[float, Field(ge=0, le=100)]

KEYS: dict[str, Any] = {
    "seed": Annotated[int, Field(ge=0, lt=2**32)],  # as NumPy's
    "protocol": Literal["paper", "holdout"],
    "ckpt_path": str | None,
    "resume": Literal["auto"] | None,
    "baselines": bool,
    "report": bool,
    "test": bool,
    "embeddings": bool,
    "published": dict[str, Any] | None,
    "published.source": str,
    **{f"published.{metric}": Percent for metric in PUBLISHED},
    "published.recall_at_1_sd": NonNegativeFloat,  # over seeds
    "published.recall_at_1_in_abstract": Percent,  # where a paper states two figures
    "overwrite": bool,
    "run_dir": str,
    "lr_factors.backbone": NonNegativeFloat,
    "lr_factors.head": NonNegativeFloat,
    "lr_factors.loss": NonNegativeFloat,
    "loss.chunk": int | Literal["auto"] | None,
    "loss.num_classes": int | None,  # null: filled in with the training classes
    "memory": Any,
    "regularizer": Any,
    **{f"model.{key}": kind for key, kind in MODEL_IN_TRAINING.items()},
    "sampler.classes_per_batch": AtLeastTwo | Literal["auto"],
    "sampler.images_per_class": AtLeastTwo | Literal["auto"],
    "sampler.steps_per_epoch": PositiveInt | None,
    "optimizer.lr": NonNegativeFloat,
    "optimizer.weight_decay": NonNegativeFloat,
    "scheduler": Any,
    "data.eval_batch_size": PositiveInt,
    "data.num_workers": NonNegativeInt | None,
    "data.cache": bool | Literal["ram", "disk"],  # these two are met by what to write instead
    "data.worker_timeout": NonNegativeFloat,
    "data.cache_dir": Annotated[str, Field(min_length=1)],
    "trainer.max_steps": PositiveInt,
    "trainer.val_check_interval": PositiveInt,
    "trainer.log_every_n_steps": PositiveInt,
    "logger": Any,
    "callbacks.last_checkpoint.every_n_train_steps": PositiveInt | None,
    "callbacks.pair_statistics.every_n_steps": PositiveInt,
    "callbacks.progress.refresh_rate": NonNegativeInt,
    "callbacks.best_checkpoint.mode": Literal["max", "min"],
    # Any other key of a dataset is read by a ${dataset.…} in its own yaml.
    "dataset.name": str,
    "dataset.root": str | None,
    "dataset.download": bool,
    "dataset.channels": Literal[1, 3],
    "dataset.recall_at": Annotated[list[PositiveInt], Field(min_length=1)],
    "dataset.max_steps": PositiveInt,
    "dataset.val_check_interval": PositiveInt,
    "dataset.split": Any,
    "dataset.resize": Any,
    "dataset.train_transform": Any,
    "dataset.eval_transform": Any,
    "dataset.extra_classes": Any,
}
KNOWN = {*KEYS, *(key.partition(".")[0] for key in KEYS)}

# What no training can do without.
GROUPS = (
    "loss",
    "model",
    "sampler",
    "optimizer",
    "scheduler",
    "lr_factors",
    "data",
    "dataset",
    "trainer",
    "callbacks",
)
# Top-level keys of an evaluation.
EVALUATION = {
    *("ckpt_path", "trust", "dataset", "data", "trainer", "callbacks", "overwrite", "run_dir"),
    *("report", "embeddings", "audit", "baselines", "protocol", "model", "sampler", "optimizer", "scheduler"),
}

# Arguments that the package hands over itself.
FILLED_IN = {
    "memory.embedding_dim",
    *(f"sampler.{key}" for key in ("labels", "seed", "rank", "world_size")),
    "optimizer.params",
    "scheduler.optimizer",
    *(f"trainer.{key}" for key in ("callbacks", "logger", "plugins")),
}

# Groups of parts with a `_target_` each, under any name.
PARTS = {"callbacks", "callbacks.recall.metrics", "logger"}
