"""The Weights & Biases run of a training: its configuration and its curves."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.loggers import WandbLogger

from dml.distributed import is_first_process
from dml.errors import UserError
from dml.runs.failures import whole_file
from dml.runs.wandb_names import names_of_command

WANDB_ID = "wandb_id"
OFFLINE = {"offline", "dryrun", "disabled"}
STAGING = "WANDB_DATA_DIR"  # folder in which W&B keeps a table's images until they are uploaded
STAGING_GIVEN = STAGING in os.environ
STEP = "trainer/global_step"  # Lightning's x axis


class QuietWandbLogger(WandbLogger):
    """Lightning's, with one line in place of W&B's many, and the best validation in the summary."""

    def __init__(self, **init: Any) -> None:
        super().__init__(**init)
        self.said, self.defined = False, set[str]()

    @property
    def experiment(self) -> Any:
        """The run; the first call starts it.

        Raises:
            UserError: W&B refuses it.
        """
        import wandb

        try:
            run = super().experiment
        except wandb.errors.Error as error:
            raise UserError(f"logger.wandb: {str(error).splitlines()[0]}") from error
        if not self.said and is_first_process() and not run.disabled:
            print(f"W&B: {f'wandb sync --append {Path(run.dir).parent}' if run.offline else run.url}")
        self.said = True
        return run

    def log_hyperparams(self, params: Any) -> None:
        """Send the configuration, without the path of the working directory."""
        prefix = f"{Path.cwd()}/"
        super().log_hyperparams(apply_to_collection(params, str, lambda text: text.removeprefix(prefix)))

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers, images, tables and histograms.

        Of Recall@K in validation the summary keeps the maximum, as `val/recall_at_K.max`.
        """
        # Each by its name: of two patterns that match, such as Lightning's "*", W&B takes either.
        for name in {name for name in metrics if name.startswith("val/recall_at_")} - self.defined:
            self.experiment.define_metric(name, step_metric=STEP, step_sync=True, summary="max")
            self.defined.add(name)
        super().log_metrics(metrics, step)


def wandb_logger(
    project: str,
    save_dir: str,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    offline: bool | None = None,
    log_model: bool = False,
    id: str | None = None,
    entity: str | None = None,
    notes: str | None = None,
) -> WandbLogger:
    """A Weights & Biases run, offline where no account is configured; that of before where a run is resumed.

    Args:
        project, entity, notes: as W&B shows them.
        name: None takes the dataset, the loss and what the command line sets of model, loss and optimiser.
        group: None takes a sweep's folder, or the dataset outside a sweep.
        tags: beside the dataset, the loss and the model.
        save_dir: folder that receives `wandb/`, and keeps the run's id in `wandb_id`.
        id: of the W&B run; None takes WANDB_RUN_ID, which a W&B sweep sets, or that of `save_dir`, or makes a new one.
        offline: None follows WANDB_MODE (`disabled` writes nothing), and without it is online exactly where an
            account is configured.
        log_model: upload the best checkpoint; only online.

    Raises:
        UserError: checkpoints cannot be uploaded from an offline run.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # it would print 25 lines a run
    import wandb

    wandb.setup()  # reads the environment: Lightning's arguments would be warned of before
    wandb.finish()  # a second run in one process would otherwise continue the first
    mode = "offline" if offline else "online"
    if offline is None:
        mode = os.environ.get("WANDB_MODE") or (
            "online" if wandb.login(prompt=False, verify=False) else "offline"
        )
    if log_model and mode in OFFLINE:
        raise UserError("logger.wandb.log_model=true needs an online run: `wandb login` first.")
    kept = Path(save_dir, WANDB_ID)
    id = id or os.environ.get("WANDB_RUN_ID") or (kept.read_text().strip() if kept.is_file() else "")
    id = id or uuid4().hex[:12]
    if is_first_process() and mode != "disabled":
        with whole_file(kept) as part:
            part.write_text(id)
    if mode in OFFLINE and not STAGING_GIVEN:  # W&B's own is in the home, which a container forgets
        os.environ[STAGING] = str(Path(save_dir, "wandb"))
    usual = names_of_command()
    # `mode` because Lightning's own `offline` sets a variable, which wandb, once set up, no longer reads.
    return QuietWandbLogger(
        project=project,
        save_dir=save_dir,
        name=name or usual.get("name"),
        group=group or usual.get("group"),
        tags=list(dict.fromkeys([*usual.get("tags", []), *tags])),
        job_type="train",
        log_model=log_model,
        mode=mode,
        id=id,  # of a run that is resumed; Lightning adds resume="allow"
        entity=entity,
        notes=notes,
    )
