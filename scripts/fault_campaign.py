"""Strikes one run at random moments, resumes it each time, and prints what survived.

    python scripts/fault_campaign.py [--moments 20] [--seconds 120] [--kinds kill,term,…] [--seed 0]

It ends after so many moments or seconds, whichever comes first (a moment took 40 to 60 s on two busy cores).
Status 1 where something was lost that `docs/distributed.md` says is kept: a checkpoint, its step, the best one; where a
process or a `.part` stayed; where the run did not end in time; where a traceback was printed. Linux. The disk that
fills up is a small tmpfs and needs root; without, no file may grow beyond 50 kB.
A run that can do with the memory it may have is stopped by SIGTERM. One that cannot ends with status 1, or with -6,
-11 or 127 where a library in C does not check what it was given.
"""

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dml.runs.checkpoints import BEST, LAST, PREVIOUS, step_of
from dml.runs.failures import kill_when_orphaned
from dml.train import main as train

RUN = """
    trainer=cpu trainer.max_steps=1000000 trainer.val_check_interval=20 trainer.log_every_n_steps=1
    model.embedding_dim=8 scheduler=constant callbacks.last_checkpoint.every_n_train_steps=5
    callbacks.recall.nmi=false callbacks.retrieval_grid=null data.num_workers=1 data.worker_timeout=5 resume=auto
""".split()  # noqa: SIM905
BOUND = 120  # seconds until a run that was struck has ended


def begin(folder: Path, output: Path) -> None:
    """The run, in a session of its own."""
    os.setsid()
    kill_when_orphaned()  # a campaign that is ended leaves no run behind
    with output.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["train", *RUN, f"hydra.run.dir={folder}"]
    train()


def worker_of(pid: int) -> int:
    """Its data worker, or the run itself while there is none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def fill(folder: Path, pid: int) -> None:
    """Leave no room on the disk, until `empty`."""
    if not os.path.ismount(folder):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (50_000, 50_000))
        return
    with open(folder / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))


def limit_memory(folder: Path, pid: int) -> None:
    """No more memory than the run has now, or a little more."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + random.choice((0, 0, 1, 16, 64)) * 2**20
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def damage(folder: Path, pid: int) -> None:
    """Kill the run and spoil its last checkpoint: cut, zeros, or one byte that is wrong."""
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    file = folder / "checkpoints" / LAST
    content = bytearray(file.read_bytes())
    at = random.randrange(len(content))
    how = random.choice(("cut", "zeros", "byte"))
    content[at:] = {"cut": b"", "zeros": bytes(len(content) - at), "byte": content[at:]}[how]
    if how == "byte":
        content[at] ^= 1
    file.write_bytes(content)


KINDS: dict[str, Callable[[Path, int], None]] = {
    "kill": lambda folder, pid: os.kill(pid, signal.SIGKILL),
    "term": lambda folder, pid: os.kill(pid, signal.SIGTERM),
    "hangup": lambda folder, pid: os.kill(pid, signal.SIGHUP),
    "interrupt": lambda folder, pid: os.kill(pid, signal.SIGINT),
    "kill_worker": lambda folder, pid: os.kill(worker_of(pid), signal.SIGKILL),
    "stop_worker": lambda folder, pid: os.kill(worker_of(pid), signal.SIGSTOP),
    "disk": fill,
    "memory": limit_memory,
    "damage": damage,
}


def steps(folder: Path) -> dict[str, int | None]:
    """The step of each checkpoint; None where it is missing or damaged."""
    return {name: step_of(folder / "checkpoints" / name) for name in (LAST, PREVIOUS, BEST)}


def newest(found: dict[str, int | None]) -> int:
    return max(found[LAST] or 0, found[PREVIOUS] or 0)


def members(session: int) -> list[str]:
    """Processes of a session that are still there."""
    lines = subprocess.run(
        ["ps", "-o", "pid=,stat=,args=", "-s", str(session)], capture_output=True, text=True
    )
    return [line for line in lines.stdout.splitlines() if " Z" not in line]


def strike(folder: Path, kind: str, output: Path) -> list[str]:
    """Resume the run, strike it at a random moment, and name what is wrong afterwards."""
    before = newest(steps(folder))
    run = multiprocessing.get_context("fork").Process(target=begin, args=(folder, output))
    run.start()
    assert run.pid is not None
    start = time.monotonic()
    while newest(steps(folder)) <= before:  # it goes on, and keeps something new
        if not run.is_alive() or time.monotonic() - start > BOUND:
            run.kill()
            return [f"it did not go on from step {before}: {output.read_text()[-500:]}"]
        time.sleep(0.2)
    time.sleep(random.uniform(0, 5))
    known, struck = steps(folder), time.monotonic()
    KINDS[kind](folder, run.pid)
    run.join(5 if kind in ("disk", "memory") else BOUND)
    if kind == "memory" and run.is_alive():  # it needed no more
        run.terminate()
    run.join(BOUND)
    wrong = [f"it did not end within {BOUND} s"] if run.is_alive() else []
    wrong += [f"a process stayed: {line}" for line in members(run.pid)]
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    (folder / "filler").unlink(missing_ok=True)
    now, text = steps(folder), output.read_text()
    said = [line for line in text.splitlines() if line.startswith("Error: ")]
    print(
        f"{kind:12} at step {known[LAST]}: status {run.exitcode} after {time.monotonic() - struck:.1f} s, kept step "
        f"{newest(now)}, best of {now[BEST]}. {' '.join(said)}",
        flush=True,
    )
    kept = known[PREVIOUS] or 0 if kind == "damage" else newest(known)
    if newest(now) < kept:
        wrong.append(f"the newest checkpoint is of step {newest(now)}, and was of {kept}")
    if known[BEST] is not None and now[BEST] is None:
        wrong.append("the best checkpoint is lost")
    if kind not in ("kill", "damage"):
        wrong += [f"{part} stayed" for part in folder.rglob("*.part")]
    if "Traceback" in text:
        wrong.append(f"a traceback: {text[-3000:]}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    place = Path(tempfile.mkdtemp())
    folder, end = place / "run", time.monotonic() + args.seconds
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", folder], capture_output=True)
    struck: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    try:
        while sum(struck.values()) < args.moments and time.monotonic() < end:
            kinds = args.kinds.split(",")
            kind = kinds[sum(struck.values()) % len(kinds)]
            wrong = strike(folder, kind, place / "output")
            struck[kind] += 1
            survived[kind] += not wrong
            for line in wrong:
                print(f"    WRONG: {line}", flush=True)
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=False)
        shutil.rmtree(place)
    for kind, count in struck.items():
        print(f"{kind:12} {survived[kind]} of {count} survived")
    sys.exit(survived != struck)


if __name__ == "__main__":
    main()
