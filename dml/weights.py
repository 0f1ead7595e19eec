"""Pair weights of a loss, and the similarities that they depend on: `python -m dml.weights loss=ms`."""

from dml.config.cli import command

main = command("weights", "dml.analysis.weight_report:run")

if __name__ == "__main__":
    main()
