"""Run the notebooks, all or those named, and store them with their outputs, without times or versions.

python scripts/run_notebooks.py [notebooks/results.ipynb …]
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run each from top to bottom in its folder."""
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    named = [Path(name).resolve() for name in sys.argv[1:]]
    for file in named or sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        kept = {key: dict(notebook.metadata[key]) for key in ("kernelspec", "language_info")}
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False)
        client.execute(cwd=str(file.parent))
        notebook.metadata = nbformat.from_dict(kept)
        nbformat.write(notebook, file)


if __name__ == "__main__":
    main()
