"""Look for the settings with the best validation, by Optuna: `python -m dml.tune dataset=cars loss=ms`."""

from dml.config.cli import command

main = command("tune", "dml.runs.tuning:run")

if __name__ == "__main__":
    main()
