"""`python -m dml.index` and `dml.search` as a person types them, and on several processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from fake_benchmarks import write_image, write_tree
from indexes import index, items_of, write_checkpoint
from lightning_utilities.core.rank_zero import rank_zero_only
from worlds import in_world

from dml.runs.guard import lock
from dml.use import embedding_pass, parts
from dml.use.index_folder import parts_of, read_state

REPOSITORY = Path(__file__).resolve().parents[2]
CPU = ("trainer.accelerator=cpu", "data.num_workers=0")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "a.ckpt")
    write_tree(tmp_path / "images", {"cats": 7, "dogs": 6})
    return tmp_path


def command(name: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"dml.{name}", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(name: str, *arguments: str, folder: Path) -> tuple[int, list[str], str]:
    process = command(name, *arguments, folder=folder)
    out, err = process.communicate(timeout=200)
    return process.returncode, out.splitlines(), err


def test_index_then_search(here, typed, monkeypatch):
    monkeypatch.chdir(here)
    write_image(here / "new.png")
    code, said, err = done("index", "ckpt_path=a.ckpt", "images=images", "out=my index", *CPU, folder=here)
    assert (code, err) == (0, "")
    assert said[-2].startswith(
        "13 images of 2 classes, 16 dimensions, flat; Recall@1 against exact search 1.0000; "
    )
    code, out, err = typed("dml.search", "index=my index", "image=new.png", "k=3", "device=cpu")
    assert (code, err) == (0, "")
    said = out.splitlines()
    assert [line.split()[0] for line in said[1:4]] == ["1", "2", "3"]
    assert {"results.csv", "results.png"} <= {file.name for file in (here / said[-1]).iterdir()}
    code, out, err = typed("dml.index", "out=my index", "remove=cats/*", *CPU)
    assert (code, err, out.splitlines()[0]) == (0, "", "removed: 7 images")


def test_a_second_process_is_refused_while_one_writes(here):
    with lock(here / "out", "out"):  # of this process, so the other is one of its own
        code, _, err = done("index", "ckpt_path=a.ckpt", "images=images", "out=out", *CPU, folder=here)
    assert code == 1
    assert err == "Error: out=out is in use by another process: wait for its end, or give another folder.\n"


def on_processes(folder: Path, part: int) -> None:
    for module in (parts, embedding_pass):
        module.PART = part  # type: ignore[attr-defined]
    images = (f"ckpt_path={folder.parent / 'a.ckpt'}", f"images={folder.parent / 'images'}")
    size = os.environ["WORLD_SIZE"]
    rank_zero_only.rank = dist.get_rank()  # torchrun sets it before anything is imported
    index(
        folder / "out", *images, "trainer.strategy=ddp", f"trainer.devices={size}", "data.eval_batch_size=3"
    )


@pytest.mark.parametrize("part", [4, 8])  # of 8, there is nothing for the third process
def test_three_processes_make_the_index_of_one(here, part):
    (here / "images" / "cats" / "1.png").write_bytes(b"")
    for size in (1, 3):
        in_world(size, here / str(size), on_processes, part)
    one, three = (here / str(size) / "out" for size in (1, 3))
    for name in ("index-1.faiss", "items-1.csv", "skipped.csv"):
        assert (one / name).read_bytes() == (three / name).read_bytes()
    z_1, z_3 = (parts_of(out, read_state(out)).vectors(items_of(out).ids) for out in (one, three))
    assert len(z_1) == 12
    assert np.array_equal(z_1, z_3)


@pytest.mark.slow
def test_two_processes_that_lightning_starts_and_a_kill(here):
    write_tree(here / "images", {"birds": 4000})
    words = ("ckpt_path=a.ckpt", "images=images", "trainer.accelerator=cpu", "data.num_workers=1")
    killed = command("index", *words, "out=out", folder=here)
    while not list((here / "out").glob("parts/*.npy")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not (here / "out" / "index.json").exists()
    two = ("trainer.devices=2", "trainer.strategy=ddp")
    for out, more in (("out", two), ("whole", ())):
        code, _, err = done("index", *words, f"out={out}", *more, folder=here)
        assert code == 0, err
    for name in ("index-1.faiss", "items-1.csv"):
        assert (here / "out" / name).read_bytes() == (here / "whole" / name).read_bytes()
