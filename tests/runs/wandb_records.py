"""What an offline run of Weights & Biases has written, read from its `.wandb` file."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

HEADER = 7  # bytes, of the file and of each part of a record
BLOCK = 32_768  # bytes; the format is LevelDB's log
WHOLE, LAST = 1, 4  # kinds of a part that ends a record


@dataclass
class OfflineRun:
    """The run as W&B would show it.

    Attributes:
        files: folder of its media.
        about: names and tags.
        config, summary: by key.
        history: all logged rows.
        defined: by name of a metric, what the summary keeps of it.
        artifacts: by type, the paths of their files.
    """

    files: Path
    about: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    defined: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)


def records(file: Path) -> Iterator[Record]:
    """All records, in their order."""
    content, place, whole = file.read_bytes(), HEADER, b""
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (WHOLE, LAST):
            yield Record.FromString(whole)
            whole = b""


def read_offline_run(folder: Path) -> OfflineRun:
    """The only offline run below a folder; it has to be finished."""
    [file] = folder.rglob("offline-run-*/*.wandb")
    run = OfflineRun(file.parent / "files")
    for record in records(file):
        kind = record.WhichOneof("record_type")
        part = getattr(record, kind)
        if kind == "run":
            run.about = part
        elif kind in ("config", "summary"):
            getattr(run, kind).update(items(part.update))
        elif kind == "history":
            run.history.append(dict(items(part.item)))
        elif kind == "metric":
            run.defined[part.name or part.glob_name] = part.summary
        elif kind == "artifact":
            run.artifacts[part.type] = {
                entry.path: Path(entry.local_path) for entry in part.manifest.contents
            }
    return run


def items(updates: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of an update."""
    for update in updates:
        yield "/".join(update.nested_key) or update.key, json.loads(update.value_json)
