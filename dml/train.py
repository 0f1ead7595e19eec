"""Train an embedding and evaluate it on classes it has never seen: `python -m dml.train dataset=cars loss=ms`."""

from omegaconf import DictConfig

from dml.config.cli import command


@command("train")
def main(config: DictConfig) -> float | None:
    """One run, or one trial of a sweep; returns what the best checkpoint was chosen by, for a sweeper to maximise."""
    from dml.runs.training import run  # imports torch: only for a command line that is right

    return run(config)


if __name__ == "__main__":
    main()
