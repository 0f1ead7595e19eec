"""Export a checkpoint's network for other programs: `python -m dml.export ckpt_path=…/best.ckpt images=my_images`."""

from omegaconf import DictConfig

from dml.config.cli import command


@command("export")
def main(config: DictConfig) -> None:
    """Export one checkpoint, or each trial of a sweep."""
    from dml.use.export import export  # imports torch: only for a command line that is right

    export(config)


if __name__ == "__main__":
    main()
