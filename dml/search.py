"""Find the images of an index nearest to an image: `python -m dml.search index=… image=… k=10`."""

from omegaconf import DictConfig

from dml.config.cli import command


@command("search")
def main(config: DictConfig) -> None:
    """Search an index."""
    from dml.use.searching import run  # imports torch: only for a command line that is right

    run(config)


if __name__ == "__main__":
    main()
