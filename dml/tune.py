"""Look for the settings with the best validation, by Optuna: `python -m dml.tune dataset=cars loss=ms`."""

from omegaconf import DictConfig

from dml.config.cli import command


@command("tune")
def main(config: DictConfig) -> None:
    """One study; the best trial is tested."""
    from dml.runs.tuning import run  # imports torch and optuna: only for a command line that is right

    run(config)


if __name__ == "__main__":
    main()
