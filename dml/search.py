"""Find the images of an index nearest to an image: `python -m dml.search index=… image=… k=10`."""

from dml.config.cli import command

main = command("search", "dml.use.searching:run")

if __name__ == "__main__":
    main()
