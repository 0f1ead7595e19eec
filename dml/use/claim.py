"""Which images a folder is embedding, so that a killed run goes on and another does not."""

import json
from pathlib import Path

from dml.errors import UserError
from dml.runs.failures import whole_file
from dml.use.listing import Listed
from dml.use.parts import PART

PENDING = "embedding.json"


def claim(folder: Path, first: int, fingerprint: str, listed: Listed) -> None:
    """Note what is being embedded, so that the same command goes on after a kill and another does not.

    Raises:
        UserError: the embedding of other images, or by another model, is unfinished.
    """
    mine = {"first": first, "fingerprint": fingerprint, "images": listed.digest(), "part": PART}
    file = folder / PENDING
    there = json.loads(file.read_text()) if file.is_file() else None
    parts = [part for part in folder.glob("parts/*") if int(part.name.partition(".")[0]) >= first]
    if there == mine:
        done = min(PART * sum(part.suffix == ".npy" for part in parts), len(listed.names))
        print(f"{done:,} of {len(listed.names):,} images are embedded already.")
        return
    if there is not None and there["first"] >= first:
        raise UserError(
            f"{folder} holds the unfinished embedding of other images or by another model: give the same images and "
            "checkpoint to go on, another folder, or overwrite=true to begin anew."
        )
    for part in parts:
        part.unlink()
    with whole_file(file) as written:
        written.write_text(json.dumps(mine))
