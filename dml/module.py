"""The LightningModule: embedding network, loss, optimiser."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dml.distributed import gather_objects, global_batch, mean_over_processes, rank, share_buffers
from dml.errors import UserError
from dml.losses import PairLoss
from dml.losses.memory import CrossBatchMemory

# From embeddings, (B, D), before they are normalised, and `local`, to a scalar.
Regularizer = Callable[[Tensor, bool], Tensor]


class EvaluationModule(pl.LightningModule):
    """An embedding network that Lightning can validate and test.

    Args:
        embedder: images (B, C, H, W) → L2-normalised embeddings (B, D).
    """

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, image: Tensor) -> Float[Tensor, "B D"]:
        return self.embedder(image)

    def on_validation_epoch_start(self) -> None:
        share_buffers(self.embedder)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Float[Tensor, "B D"]:
        return self(batch["image"])

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step


class EmbeddingModule(EvaluationModule):
    """Embedding network and the pair-based loss that trains it.

    Args:
        embedder: images (B, C, H, W) → L2-normalised embeddings (B, D); its parameters under `head` belong to the
            head, all others to the backbone.
        loss: any of `dml.losses`.
        optimizer: makes the optimiser from parameter groups.
        scheduler: makes the learning-rate schedule, in steps, from the optimiser.
        lr_factors: factors on the learning rate for "backbone", "head" and "loss" (proxies, margins).
        config: the run's whole configuration; every checkpoint holds it, so that the model can be rebuilt from it.
        scope: "global" compares each image with those of all processes, "local" with those of its own process.
        memory: embeddings of past batches, used as further references.
        regularizer: added to the loss, a function of the embeddings before they are normalised, such as
            `dml.losses.spherical.SphericalConstraint`.

    Attributes:
        embed: `embedder` as training calls it, which may be compiled; no module, so that keys stay as they are.
    """

    def __init__(
        self,
        embedder: nn.Module,
        loss: PairLoss,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        lr_factors: Mapping[str, float],
        config: DictConfig,
        scope: str = "global",
        memory: CrossBatchMemory | None = None,
        regularizer: Regularizer | None = None,
    ) -> None:
        super().__init__(embedder)
        # Plain containers only: a checkpoint is read without running any code from it.
        self.save_hyperparameters(OmegaConf.to_container(config, resolve=True))
        self.config = OmegaConf.to_container(config, resolve=False)
        self.embed: Callable[..., Tensor] = embedder.__call__  # with its hooks
        self.loss = loss
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.lr_factors = lr_factors
        self.local = scope == "local"
        self.memory, self.regularizer = memory, regularizer
        if memory is not None:
            # The same on every process already: DDP need not copy it at every step.
            self._ddp_params_and_buffers_to_ignore = [f"memory.{name}" for name, _ in memory.named_buffers()]
        self.rng_states: list[dict[str, Tensor]] = []  # one per process, from a checkpoint

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        label_B = batch["label"]
        if self.regularizer is None:
            z_BD = self.embed(batch["image"])
        else:
            f_BD = self.embed(batch["image"], normalize=False)
            z_BD = F.normalize(f_BD, dim=1)
        z_RD, label_R, self_index, weight = global_batch(z_BD, label_B, self.local)
        references = (z_RD, label_R) if self.memory is None else self.memory.references(z_RD, label_R)
        self.loss.seed = seed_of_step(self.hparams["seed"], self.global_step, rank() if self.local else 0)
        loss = self.loss(z_BD, label_B, *references, self_index) * weight
        if self.regularizer is not None:
            added = self.regularizer(f_BD, self.local) * weight
            self.log("train/regularizer", mean_over_processes(added), batch_size=len(z_RD))
            loss = loss + added
        mean = mean_over_processes(loss)
        self._stop_at_nan(mean, batch["index"])
        if self.memory is not None:
            self.memory.add(z_RD, label_R)
        self.log("train/loss", mean, prog_bar=True, batch_size=len(z_RD))
        return {"loss": loss, "embedding": z_BD.detach()}

    def _stop_at_nan(self, loss: Tensor, index_B: Tensor) -> None:
        if torch.isfinite(loss):
            return
        names = self.trainer.datamodule.train_set.names  # type: ignore[attr-defined]
        shown = ", ".join(names[i] for i in index_B[:3].tolist())
        raise UserError(
            f"The loss is {loss.item()} at step {self.global_step}, on the batch of {shown}, …: lower optimizer.lr "
            "or look at these images; any checkpoint written before this step is untouched."
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Lightning's copy of the configuration, whose paths are absolute.
        checkpoint.pop(self.CHECKPOINT_HYPER_PARAMS_KEY, None)
        checkpoint["config"] = self.config
        checkpoint["rng"] = gather_objects(rng_state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.rng_states = checkpoint.get("rng", [])

    def on_train_start(self) -> None:
        if rank() < len(self.rng_states):
            set_rng_state(self.rng_states[rank()])

    def configure_optimizers(self) -> Any:
        named = [(name, p) for name, p in self.embedder.named_parameters() if p.requires_grad]
        groups = {
            "backbone": [p for name, p in named if not name.startswith("head.")],
            "head": [p for name, p in named if name.startswith("head.")],
            "loss": list(self.loss.parameters()),
        }
        optimizer = self.make_optimizer([{"params": p, "name": name} for name, p in groups.items() if p])
        for group in optimizer.param_groups:
            group["lr"] *= self.lr_factors[group["name"]]
        scheduler = {"scheduler": self.make_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def rng_state() -> dict[str, Tensor]:
    """State of torch's generators of the CPU and of this process's GPU.

    Dropout draws from them. Batches and augmentation depend on (seed, epoch, step) alone, random mining on
    `seed_of_step`.
    """
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Tensor]) -> None:
    """Restore what `rng_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_of_step(seed: int, step: int, stream: int = 0) -> int:
    """Seed for the random draws of one step, 0 … 2⁶³ − 1; a resumed run gets the same.

    Args:
        seed: the run's seed, ≥ 0.
        step: optimiser step, ≥ 0.
        stream: number of an independent stream, such as the rank of a process with a batch of its own; ≥ 0.
    """
    return int(np.random.SeedSequence([seed, step, stream]).generate_state(1, np.uint64)[0]) >> 1
