"""Index a folder of images by a checkpoint's embeddings: `python -m dml.index ckpt_path=… images=… out=…`."""

from omegaconf import DictConfig

from dml.config.cli import command


@command("index")
def main(config: DictConfig) -> None:
    """Make or change an index."""
    from dml.use.indexing import run  # imports torch: only for a command line that is right

    run(config)


if __name__ == "__main__":
    main()
