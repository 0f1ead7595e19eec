"""Evaluate a checkpoint, from the checkpoint alone: `python -m dml.evaluate ckpt_path=…/best.ckpt`."""

from omegaconf import DictConfig

from dml.config.cli import command


def run(config: DictConfig) -> None:
    """Evaluate once, or each trial of a sweep."""
    if config.protocol == "verification":
        from dml.runs.verification import run  # imports torch
    else:
        from dml.runs.evaluation import run
    run(config)


main = command("evaluate", "dml.evaluate:run")

if __name__ == "__main__":
    main()
