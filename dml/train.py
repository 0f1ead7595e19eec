"""Train an embedding and evaluate it on classes it has never seen: `python -m dml.train dataset=cars loss=ms`."""

from dml.config.cli import command

main = command("train", "dml.runs.training:run")

if __name__ == "__main__":
    main()
