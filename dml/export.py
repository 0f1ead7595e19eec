"""Export a checkpoint's network for other programs: `python -m dml.export ckpt_path=…/best.ckpt images=my_images`."""

from dml.config.cli import command

main = command("export", "dml.use.export:export")

if __name__ == "__main__":
    main()
