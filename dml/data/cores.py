"""How many processes can work at once."""

import os


def cores() -> int:
    """Cores that this process may use; all of the machine's where the system cannot tell, as on macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
