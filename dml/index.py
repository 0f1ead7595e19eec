"""Index a folder of images by a checkpoint's embeddings: `python -m dml.index ckpt_path=… images=… out=…`."""

from dml.config.cli import command

main = command("index", "dml.use.indexing:run")

if __name__ == "__main__":
    main()
