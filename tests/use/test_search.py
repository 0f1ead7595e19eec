"""`dml.search`: what is found, written and drawn; what is refused."""

import csv
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from fake_benchmarks import write_image, write_tree
from indexes import index, items_of, search, write_checkpoint
from PIL import Image

import dml
from dml.errors import Note, UserError

SIZES = {"cats": 5, "dogs": 4, "shoes/boots": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, images, and an index of them in `out`."""
    folder = tmp_path_factory.mktemp("made")
    write_checkpoint(folder / "a.ckpt")
    write_tree(folder / "images", SIZES)
    index(folder / "out", f"ckpt_path={folder / 'a.ckpt'}", f"images={folder / 'images'}")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(made, tmp_path, dirs_exist_ok=True))


def rows(here: Path) -> list[dict[str, str]]:
    with (here / "found" / "results.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_the_nearest_images_are_found_in_order(here, capsys):
    write_image(here / "new.png")
    found = search(here / "out", here / "new.png", "k=4")
    items, embedder = items_of(here / "out"), dml.load(here / "a.ckpt", device="cpu")
    z = embedder.embed([here / "images" / name for name in items.names])
    S = z @ embedder.embed(here / "new.png")[0]
    order = np.argsort(-S)[:4].tolist()
    assert [[hit.item for hit in row] for row in found] == [order]
    assert [hit.score for hit in found[0]] == pytest.approx(S[order], abs=1e-5)
    assert [(row["name"], row["class"]) for row in rows(here)] == [
        (items.names[n], items.classes[n]) for n in order
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[:3] == ["1", f"{S[order[0]]:.4f}", items.names[order[0]]]


def test_a_folder_of_queries_each_of_which_finds_itself(here):
    (here / "images" / "cats" / "broken.png").write_bytes(b"")
    with pytest.warns(Note, match=r"1 of 13 queries cannot be read and are left out: .*broken\.png is empty"):
        search(here / "out", here / "images", "k=1", "sheet.queries=3")
    assert [row["query"] for row in rows(here)] == [row["name"] for row in rows(here)]
    assert len(rows(here)) == 12
    width, height = Image.open(here / "found" / "results.png").size
    assert (width, height) == (2 * 180, 3 * 210)


def test_images_that_moved_are_grey_until_their_root_is_given(here):
    write_image(here / "new.png")
    shutil.move(here / "images", here / "elsewhere")
    with pytest.warns(Note, match=r"Grey tiles .*root=… gives"):
        search(here / "out", here / "new.png", "k=2")
    grey = Image.open(here / "found" / "results.png").tobytes()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Grey")
        search(here / "out", here / "new.png", "k=2", f"root={here / 'elsewhere'}")
    assert Image.open(here / "found" / "results.png").tobytes() != grey


def test_an_index_moves_with_its_images_and_checkpoint(here):
    (here / "there").mkdir()
    for name in ("out", "images", "a.ckpt"):
        shutil.move(here / name, here / "there" / name)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Grey")
        [[hit]] = search(here / "there" / "out", here / "there" / "images" / "cats" / "2.png", "k=1")
    assert items_of(here / "there" / "out").names[hit.item] == "cats/2.png"


def test_more_than_there_are_gives_all(here):
    with pytest.warns(Note, match="k=50 is more than the 12 images"):
        [row] = search(here / "out", here / "images" / "cats" / "0.png", "k=50")
    assert sorted(hit.item for hit in row) == list(range(12))


def cut(file: Path, size: int = 100) -> None:
    file.write_bytes(file.read_bytes()[:size])


def state(here: Path, **changes: object) -> None:
    file = here / "out" / "index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def fewer_items(here: Path) -> None:
    """A table and an index that are whole, but not of the same images."""
    file = here / "out" / "items-1.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    sizes = {name: (here / "out" / name).stat().st_size for name in ("items-1.csv", "index-1.faiss")}
    state(here, sizes=sizes, images=11)


def unreadable_index(here: Path) -> None:
    cut(here / "out" / "index-1.faiss")
    state(here, sizes={})


@pytest.mark.parametrize(
    ("damage", "overrides", "said"),
    [
        (lambda here: cut(here / "out" / "index-1.faiss"), [], "cut short .100 of"),
        (lambda here: cut(here / "out" / "items-1.csv"), [], r"items-1.csv is missing or cut short"),
        (lambda here: cut(here / "out" / "index.json"), [], r"index.json is damaged"),
        (unreadable_index, [], "cannot be read as a FAISS index"),
        (fewer_items, [], "holds 12 vectors for 11 images"),
        (lambda here: (here / "a.ckpt").unlink(), [], r"a.ckpt: there is no such file"),
        (lambda here: write_checkpoint(here / "a.ckpt", seed=1), [], "another model than the index's"),
        (lambda here: write_checkpoint(here / "b.ckpt", seed=1), ["ckpt_path=HERE/b.ckpt"], "another model"),
        (lambda here: cut(here / "new.png"), [], r"new.png cannot be read as an image"),
        (lambda here: (here / "new.png").unlink(), [], "is not there"),
        (lambda here: (here / "void").mkdir(), ["image=HERE/void"], "void holds no images"),
        (lambda here: (here / "void").mkdir(), ["index=HERE/void"], r"void holds no index.json"),
        (lambda here: None, ["index=HERE/nowhere"], r"nowhere is not a folder with an index.json"),
        (lambda here: None, ["k=0"], "k=0 must be"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(here, damage, overrides, said):
    write_image(here / "new.png")
    damage(here)
    overrides = [override.replace("HERE", str(here)) for override in overrides]
    with pytest.raises(UserError, match=said) as error:
        search(here / "out", here / "new.png", *overrides)
    assert "\n" not in str(error.value)
