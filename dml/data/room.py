"""How much fits: memory and disk that are free, and sizes as a person reads them."""

import os
import shutil
from pathlib import Path

MEMINFO, CGROUP, SHARED = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/dev/shm")


def free_memory() -> int:
    """Bytes that processes can still share among themselves; all of the machine's where no more is known."""
    known = [size for size in (_available(), _allowed(), _shared()) if size is not None]
    return min(known) if known else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_disk(folder: Path) -> int:
    """Bytes free on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.exists())).free


def readable(size: int) -> str:
    """Bytes in GB, or in MB where they are few."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _available() -> int | None:
    """Linux's own estimate, which counts what it would give up."""
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None


def _allowed() -> int | None:
    """What is left of a container's share."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        lines = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return limit - used + int(lines["inactive_file"])
    except (OSError, KeyError, ValueError):
        return None


def _shared() -> int | None:
    """Room in /dev/shm, where Linux keeps shared memory; containers often have 64 MB."""
    return shutil.disk_usage(SHARED).free if SHARED.is_dir() else None
