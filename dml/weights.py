"""Pair weights of a loss, and the similarities that they depend on: `python -m dml.weights loss=ms`."""

from omegaconf import DictConfig

from dml.config.cli import command


@command("weights")
def main(config: DictConfig) -> None:
    """Analyse one loss or several."""
    from dml.analysis.weight_report import run  # imports torch: only for a command line that is right

    run(config)


if __name__ == "__main__":
    main()
