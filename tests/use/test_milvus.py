"""`index.engine=milvus`, against Milvus Lite in a file."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_benchmarks import write_image, write_tree
from indexes import index, items_of, search, write_checkpoint

from dml.errors import UserError


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A checkpoint, images, an index of them in FAISS and one in Milvus."""
    pytest.importorskip("milvus_lite")
    pytest.importorskip("pymilvus")
    write_checkpoint(tmp_path / "a.ckpt")
    write_tree(tmp_path / "images", {"cats": 5, "dogs": 4})
    write_image(tmp_path / "new.png")
    both = (f"ckpt_path={tmp_path / 'a.ckpt'}", f"images={tmp_path / 'images'}")
    index(tmp_path / "out", *both)
    index(tmp_path / "far", *both, "index.engine=milvus", f"index.uri={tmp_path / 'images.db'}")
    return tmp_path


def names(folder: Path, image: Path) -> list[str]:
    [row] = search(folder, image, "k=5")
    return [items_of(folder).names[hit.item] for hit in row]


def test_it_finds_what_faiss_finds_also_after_changes(here):
    write_tree(here / "more", {"birds": 3})
    for change in (None, f"add={here / 'more'}", "remove=cats/*"):
        if change:
            assert index(here / "far", change).images == index(here / "out", change).images
        assert names(here / "far", here / "new.png") == names(here / "out", here / "new.png")


def test_another_process_searches_it(here):
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_all()  # a file is open in one process at a time
    repository = Path(__file__).resolve().parents[2]
    words = (f"index={here / 'far'}", f"image={here / 'new.png'}", "k=2", "device=cpu")
    done = subprocess.run(
        [sys.executable, "-m", "dml.search", *words],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[2] for line in done.stdout.splitlines()[1:3]] == names(
        here / "out", here / "new.png"
    )[:2]


def test_names_and_classes_are_there_for_other_programs(here):
    import json

    from pymilvus import MilvusClient

    state = json.loads((here / "far" / "index.json").read_text())
    assert state["uri"] == "../images.db"
    assert state["measured"]["recall_at_1"] == 1
    client = MilvusClient(str(here / "images.db"))
    rows = client.query(state["collection"], filter="class == 'dogs'", output_fields=["id", "name"])
    assert sorted(row["name"] for row in rows) == [f"dogs/{n}.png" for n in range(4)]
    client.close()


def test_a_server_that_is_not_there_or_silent_is_one_sentence(here, monkeypatch):
    monkeypatch.setattr("dml.use.milvus_index.CONNECT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and says nothing
        for port in (1, silent.getsockname()[1]):
            began = time.monotonic()
            with pytest.raises(
                UserError, match=rf"Milvus at http://127.0.0.1:{port} does not answer"
            ) as error:
                milvus(here, f"index.uri=http://127.0.0.1:{port}")
            assert time.monotonic() - began < 30
            assert "\n" not in str(error.value)


def milvus(here: Path, *overrides: str) -> None:
    both = (f"ckpt_path={here / 'a.ckpt'}", f"images={here / 'images'}", "index.engine=milvus")
    index(here / "other", *both, *overrides)


def test_what_is_missing_is_one_sentence(here, monkeypatch):
    for uri in ("null", "images.txt"):
        with pytest.raises(UserError, match=rf"index.uri=({uri}|None) is no place for Milvus"):
            milvus(here, f"index.uri={uri}")
    with pytest.raises(UserError, match=r"index\.type=ivfpq needs a server"):
        milvus(here, f"index.uri={here / 'b.db'}", "index.type=ivfpq")
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(UserError, match=r"needs pymilvus: pip install 'dml\[milvus\]'"):
        milvus(here, f"index.uri={here / 'b.db'}")
