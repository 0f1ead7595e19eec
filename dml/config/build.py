"""From a configuration to the objects it describes."""

import os
from functools import partial
from shutil import which
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dml.config.check import RENAMED, check_config, resolved
from dml.config.schema import MODEL_IN_TRAINING
from dml.data.datamodule import EmbeddingDataModule
from dml.errors import UserError, note
from dml.losses.chunks import check_chunk
from dml.losses.memory import CrossBatchMemory
from dml.models.embedder import Embedder
from dml.models.freeze import freeze
from dml.module import EmbeddingModule, Regularizer
from dml.runs.checkpoints import AtomicCheckpointIO


def without_lambda(node: Any) -> Any:
    """The containers with each key `lambda`, a Python keyword, renamed to `lam`."""
    if isinstance(node, dict):
        return {RENAMED.get(key, key): without_lambda(value) for key, value in node.items()}
    return [without_lambda(value) for value in node] if isinstance(node, list) else node


def build(config: DictConfig, **extra: Any) -> Any:
    """The object that `config._target_` describes; a key or value that it refuses is a UserError that names it."""
    # Hydra resolves interpolations of nodes that others refer to in place; here `config` stays as it is.
    plain = resolved(config)
    try:
        return instantiate(plain, **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, (TypeError, ValueError, ImportError, MisconfigurationException)):
            raise UserError(f"{config.get('_target_')}: {cause}") from error
        raise


def check_run(config: DictConfig) -> None:
    """Check a training configuration and build all that needs no data, before anything is read or written."""
    check_config(config)
    try_out(config)
    build_module(config, num_classes=2)
    build_trainer(config, with_loggers=False)


def try_out(config: DictConfig) -> None:
    """Build what needs no data and throw it away, so that a bad value is refused before the dataset is read."""
    loss = build_loss(config.loss, num_classes=2)
    build_memory(config, embedding_dim=1)
    build_regularizer(config)
    make_optimizer, make_scheduler = build(config.optimizer), build(config.scheduler)
    try:
        optimizer = make_optimizer([torch.zeros(1, requires_grad=True)])
        scheduler = make_scheduler(optimizer)
        optimizer.step()
        scheduler.step()
    except (TypeError, ValueError, ArithmeticError) as error:
        settings = [
            f"scheduler.{key}={value}" for key, value in config.scheduler.items() if str(key)[0] != "_"
        ]
        raise UserError(f"optimizer or scheduler: {error} ({', '.join(settings)}).") from error
    headless = config.model.get("embedding_dim", "a head") is None
    frozen = config.model.get("freeze") == "backbone"
    for part, missing in (("loss", not list(loss.parameters())), ("head", headless), ("backbone", frozen)):
        if missing and config.lr_factors[part] != 1:
            # No error: a sweep over losses may well give one factor for those that have parameters.
            note(
                f"lr_factors.{part}={config.lr_factors[part]} changes nothing: this {part} has no parameters to "
                "train."
            )


def build_data(config: DictConfig) -> EmbeddingDataModule:
    """The data module, its dataset loaded and checked; P and K that are "auto" become numbers in the configuration."""
    data: EmbeddingDataModule = build(config.data)
    data.setup()
    if data.sampler is not None:
        # Built once here, so that P and K that do not fit are refused early, and checkpoints hold numbers.
        sampler = data.sampler(data.train_set.labels)
        keys = ("classes_per_batch", "images_per_class")
        fitted = {key: getattr(sampler, key) for key in keys if config.sampler.get(key) == "auto"}
        config.sampler.update(fitted)
        data.sampler = partial(data.sampler, **fitted)  # which says nothing a second time
    return data


def build_loss(config: DictConfig, num_classes: int) -> Any:
    """The loss; its key `lambda`, a Python keyword, is the argument `lam`.

    A loss with parameters per class has a key `num_classes`; null there means the training classes. `chunk`, which
    every loss has, is set on it afterwards.
    """
    keys = without_lambda(resolved(config))
    chunk = keys.pop("chunk", "auto")
    check_chunk(chunk)
    if keys.get("num_classes", num_classes) is None:
        keys["num_classes"] = num_classes
    if keys.get("num_classes", num_classes) < num_classes:
        raise UserError(
            f"loss.num_classes={keys['num_classes']} is fewer than the {num_classes} classes trained on: leave it out."
        )
    built = build(OmegaConf.create(keys))
    built.chunk = chunk
    return built


def build_model(config: DictConfig) -> Embedder:
    """The embedder as it is trained: frozen, with gradient checkpointing and in channels-last layout, if asked for.

    Raises:
        UserError: its network or one of these keys is refused.
    """
    keys = {key: value for key, value in resolved(config).items() if key not in MODEL_IN_TRAINING}
    embedder: Embedder = build(OmegaConf.create(keys))
    freeze(embedder, config.get("freeze"))
    if config.get("checkpoint_gradients"):
        embedder.backbone.checkpoint_gradients()
    if config.get("channels_last"):
        embedder.to(memory_format=torch.channels_last)
    return embedder


def build_memory(config: DictConfig, embedding_dim: int) -> CrossBatchMemory | None:
    """The memory of past batches, if there is one."""
    if config.get("memory") is None:
        return None
    if config.sampler.get("scope") == "local":
        raise UserError("memory=… is one for all processes: it needs sampler.scope=global.")
    return build(config.memory)(embedding_dim=embedding_dim)


def build_regularizer(config: DictConfig) -> Regularizer | None:
    """What is added to the loss, if anything is."""
    return build(config.regularizer) if config.get("regularizer") else None


def build_module(config: DictConfig, num_classes: int, embedder: Embedder | None = None) -> EmbeddingModule:
    """The embedder, which may be built already, its loss, optimiser and schedule."""
    embedder = embedder or build_model(config.model)
    if config.loss.get("embedding_dim", embedder.embedding_dim) != embedder.embedding_dim:
        raise UserError(
            f"loss.embedding_dim={config.loss.embedding_dim} is not the {embedder.embedding_dim} dimensions of the "
            "embedding: leave it out."
        )
    module = EmbeddingModule(
        embedder=embedder,
        loss=build_loss(config.loss, num_classes),
        optimizer=build(config.optimizer),
        scheduler=build(config.scheduler),
        lr_factors=config.lr_factors,
        config=config,
        scope=config.sampler.get("scope", "global"),
        memory=build_memory(config, embedder.embedding_dim),
        regularizer=build_regularizer(config),
    )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UserError(
            f"model.freeze={config.model.freeze} leaves nothing to train: the network has no head "
            "(model.embedding_dim=null) and this loss no parameters; give one of them, or freeze less."
        )
    if config.model.get("compile"):
        if not any(map(which, (os.environ.get("CXX", "g++"), "clang++", "cl"))):
            raise UserError(
                "model.compile=true needs a C++ compiler, such as g++: install one, or leave it out."
            )
        module.embed = torch.compile(embedder.forward)  # when it is first called
    return module


def build_trainer(config: DictConfig, with_loggers: bool = True) -> pl.Trainer:
    """The trainer with the configured callbacks and loggers."""
    callbacks = [build(callback) for callback in config.callbacks.values() if callback]
    loggers = [build(logger) for logger in (config.get("logger") or {}).values() if logger and with_loggers]
    return build(
        config.trainer,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        val_check_interval=min(config.trainer.val_check_interval, config.trainer.max_steps),
    )
