"""Evaluate a checkpoint, from the checkpoint alone: `python -m dml.evaluate ckpt_path=…/best.ckpt`."""

from omegaconf import DictConfig

from dml.config.cli import command


@command("evaluate")
def main(config: DictConfig) -> None:
    """Evaluate once, or each trial of a sweep."""
    if config.protocol == "verification":
        from dml.runs.verification import run  # imports torch: only for a command line that is right
    else:
        from dml.runs.evaluation import run

    run(config)


if __name__ == "__main__":
    main()
