"""Train an embedding and evaluate it on classes it has never seen: `python -m dml.train dataset=cars loss=ms`."""

from omegaconf import DictConfig

from dml.config.cli import command


@command("train")
def main(config: DictConfig) -> None:
    """One run, or one trial of a sweep."""
    from dml.runs.training import run  # imports torch: only for a command line that is right

    run(config)


if __name__ == "__main__":
    main()
