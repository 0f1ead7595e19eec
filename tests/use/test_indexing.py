"""`dml.index`: what is embedded, what is indexed, what changes, what is refused."""

import csv
import os
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from fake_benchmarks import write_image, write_tree
from indexes import index, items_of, write_checkpoint

import dml
from dml.errors import Note, UserError
from dml.use import embedding_pass, indexing, parts
from dml.use.index_folder import parts_of, read_state

SIZES = {"cats": 5, "dogs": 4, "shoes/boots": 3}
ANEW = ("images=IMAGES", "ckpt_path=HERE/a.ckpt", "overwrite=true")


def scene(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A checkpoint `a.ckpt`, and images at several depths in `images`; parts of 4 images."""
    for module in (parts, embedding_pass):
        patch.setattr(module, "PART", 4)
    write_checkpoint(folder / "a.ckpt")
    write_tree(folder / "images", SIZES)
    write_image(folder / "images" / "top.png")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return scene(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder with an index in `out`, another model, other images, and a folder without any."""
    with pytest.MonkeyPatch.context() as patch:
        folder = scene(tmp_path_factory.mktemp("indexed"), patch)
        made(folder)
    write_checkpoint(folder / "b.ckpt", seed=1)
    write_tree(folder / "more", {"birds": 1})
    (folder / "empty").mkdir()
    return folder


def made(here: Path, *overrides: str, out: str = "out", images: str = "images"):
    return index(here / out, f"ckpt_path={here / 'a.ckpt'}", f"images={here / images}", *overrides)


def vectors(folder: Path) -> np.ndarray:
    return parts_of(folder, read_state(folder)).vectors(items_of(folder).ids)


def test_images_at_any_depth_are_indexed_under_their_folder(here):
    state, items = made(here), items_of(here / "out")
    assert (state.images, state.classes, state.dim, state.rows) == (13, 3, 16, 13)
    assert items.names == sorted(items.names)
    of = dict(zip(items.names, items.classes, strict=True))
    assert (of["cats/0.png"], of["shoes/boots/2.png"], of["top.png"]) == ("cats", "shoes/boots", "")
    embedder = dml.load(here / "a.ckpt", device="cpu")
    assert np.allclose(
        vectors(here / "out"), embedder.embed([here / "images" / n for n in items.names]), atol=1e-6
    )
    assert state.fingerprint == embedder.fingerprint
    assert state.measured["recall_at_1"] == 1
    found = faiss.read_index(str(here / "out" / "index-1.faiss"))
    assert found.search(vectors(here / "out"), 1)[1][:, 0].tolist() == items.ids.tolist()


def test_a_table_gives_paths_and_classes(here):
    rows = [("cats/0.png", "a"), (str(here / "images" / "dogs" / "1.png"), "b, c")]
    with (here / "images" / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    made(here, images="images/list.csv")
    items = items_of(here / "out")
    assert items.classes == ["a", "b, c"]
    assert [(here / "images" / name).is_file() for name in items.names] == [True, True]


def test_broken_files_are_listed_and_left_out(here):
    (here / "images" / "cats" / "1.png").write_bytes(b"")
    for number in range(4):  # a whole part of them
        (here / "images" / "dogs" / f"{number}.png").write_bytes(b"no image")
    with pytest.warns(Note, match=r"5 of 13 images cannot be read .*: cats/1\.png, dogs/0.*and 2 more"):
        state = made(here)
    assert (state.images, state.rows) == (8, 13)
    rows = list(csv.DictReader((here / "out" / "skipped.csv").open()))
    assert [row["name"] for row in rows] == ["cats/1.png", *(f"dogs/{n}.png" for n in range(4))]
    assert "is empty or not an image" in rows[0]["problem"]
    assert np.isfinite(vectors(here / "out")).all()


class Killed(RuntimeError):
    pass


def killed_after(monkeypatch: pytest.MonkeyPatch, here: Path, written: int) -> None:
    """Index, and die when so many parts are written."""
    left, write = [written], parts.write_part

    def write_or_die(*arguments) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(embedding_pass, "write_part", write_or_die)
        with pytest.raises(Killed):
            made(here)


def test_a_killed_run_goes_on_and_equals_an_unbroken_one(here, monkeypatch, capsys):
    (here / "images" / "cats" / "1.png").write_bytes(b"")
    with pytest.warns(Note):
        made(here, out="whole")
    for _ in range(2):
        killed_after(monkeypatch, here, 1)
    asked = []
    image = embedding_pass.ReadableImages.__getitem__
    monkeypatch.setattr(
        embedding_pass.ReadableImages,
        "__getitem__",
        lambda self, n: asked.append(n) or image(self, n),
    )
    with pytest.warns(Note):
        made(here)
    assert asked == list(range(8, 13))
    assert "8 of 13 images are embedded already" in capsys.readouterr().out
    for file in ("index-1.faiss", "items-1.csv", "skipped.csv"):
        assert (here / "out" / file).read_bytes() == (here / "whole" / file).read_bytes()
    assert np.array_equal(vectors(here / "out"), vectors(here / "whole"))


def test_an_unfinished_run_goes_on_with_its_own_images_and_model_alone(here, monkeypatch):
    killed_after(monkeypatch, here, 1)
    write_checkpoint(here / "b.ckpt", seed=1)
    with pytest.raises(UserError, match="unfinished embedding of other images or by another model"):
        made(here, f"ckpt_path={here / 'b.ckpt'}")
    write_image(here / "images" / "one more.png")
    with pytest.raises(UserError, match="overwrite=true to begin anew"):
        made(here)
    assert made(here, "overwrite=true").images == 14


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq"])
def test_images_are_added_and_removed_without_embedding_the_others(here, kind, monkeypatch):
    if kind == "ivfpq":
        write_tree(here / "images", {"many": 260})
    before = made(here, f"index.type={kind}")
    write_tree(here / "more", {"birds": 3})
    write_image(here / "images" / "dogs" / "new.png")
    embedded = []
    monkeypatch.setattr(
        indexing, "embed_parts", lambda *a: embedded.append(len(a[1].names)) or embedding_pass.embed_parts(*a)
    )
    assert index(here / "out", f"add={here / 'more'}").images == before.images + 3
    with pytest.warns(Note, match=f"{before.images} images are in the index already"):
        index(here / "out", f"add={here / 'images'}")
    assert embedded == [3, 1]
    items = items_of(here / "out")
    of = dict(zip(items.names, items.classes, strict=True))
    assert (of["../more/birds/1.png"], of["dogs/new.png"]) == ("birds", "dogs")
    assert all((here / "images" / name).is_file() for name in items.names)

    assert index(here / "out", "remove=dogs/*").images == before.images - 1
    state = index(here / "out", "remove=top.png")
    items = items_of(here / "out")
    assert not any(name.startswith("dogs/") or name == "top.png" for name in items.names)
    assert "../more/birds/1.png" in items.names
    engine = faiss.read_index(str(here / "out" / f"index-{state.edition}.faiss"))
    ids = {*engine.search(vectors(here / "out"), 5)[1].ravel().tolist()} - {-1}
    assert ids <= {*items.ids.tolist()}
    embedder = dml.load(here / "a.ckpt", device="cpu")
    files = [here / "images" / name for name in items.names]
    assert np.allclose(vectors(here / "out"), embedder.embed(files), atol=1e-6)
    left = {file.name for file in (here / "out").iterdir()}
    assert left == {f"index-{state.edition}.faiss", f"items-{state.edition}.csv"} | {
        "index.json",
        "parts",
        "skipped.csv",
    }


def test_a_change_that_breaks_off_leaves_the_index_as_it_was(here, monkeypatch):
    before, replace = made(here), os.replace

    def dies(source, target) -> None:
        if Path(target).name == "index.json":
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(Killed):
            index(here / "out", "remove=top.png")
    assert read_state(here / "out") == before
    assert "top.png" in items_of(here / "out").names
    assert index(here / "out", "remove=top.png").images == before.images - 1


def test_approximate_types_are_measured_against_exact_search(tmp_path, monkeypatch):
    from dml.use.faiss_index import FaissIndex
    from dml.use.index_folder import Items
    from dml.use.measure import measure

    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 16)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    z[5] = z[4]  # the copy is as near as any
    for first in range(0, 600, 200):
        parts.write_part(tmp_path, first, z[first : first + 200], {})
    stored, ids = parts.Parts(tmp_path, 600, 16), np.arange(600)
    S = z @ z.T
    np.fill_diagonal(S, -np.inf)
    for kind in ("flat", "hnsw", "ivfpq"):
        items = Items(ids, [""] * 600, [""] * 600)
        engine = FaissIndex.empty(kind, stored, items)
        engine.add(stored, items)
        found = engine.search(z, 10)[0]
        nearest = [next((n for n in row if n not in (q, -1)), q) for q, row in enumerate(found)]
        right = [S[q, n] >= S[q].max() - 1e-5 for q, n in enumerate(nearest)]
        assert measure(engine.search, stored, ids)["recall_at_1"] == pytest.approx(np.mean(right), abs=1e-4)
        assert kind != "flat" or all(right)


@pytest.mark.filterwarnings("ignore::dml.errors.Note")
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["images=IMAGES"], "ckpt_path is missing"),
        (["images=IMAGES", "ckpt_path=HERE/a.ckpt"], "holds an index already"),
        (["images=IMAGES", "ckpt_path=HERE/empty"], r"empty/checkpoints/best.ckpt: there is no such file"),
        (["add=IMAGES"], "all 13 images are in the index already"),
        (["add=HERE/empty"], r"add=.*empty holds no images"),
        (["add=HERE/nowhere"], "is not there"),
        (["add=MORE", "ckpt_path=HERE/b.ckpt"], "another model than the index's"),
        (["add=MORE", "remove=x"], "one at a time, not add and remove"),
        (["remove=cats/9.png"], "names no image of the index, such as cats/0.png"),
        (["remove='*'"], "names every image"),
        (
            [*ANEW, "index.type=ivfpq"],
            "needs 256 images to train on, not 13",
        ),
        (
            [*ANEW, "index.type=tree"],
            "index.type=tree must be",
        ),
        (["images=HERE/a.ckpt", "overwrite=true", "ckpt_path=HERE/a.ckpt"], "is no CSV table in UTF-8"),
        (["+imges=1", "remove=x"], "imges=… has no effect"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(indexed, here, overrides, said):
    shutil.copytree(indexed, here, dirs_exist_ok=True)
    words = {"IMAGES": here / "images", "MORE": here / "more", "HERE": here}
    for word, path in words.items():
        overrides = [override.replace(word, str(path)) for override in overrides]
    with pytest.raises(UserError, match=said):
        index(here / "out", *overrides)


def test_images_of_which_none_can_be_read_are_one_sentence(here):
    write_tree(here / "bad", {"a": 2})
    for file in (here / "bad").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"None of the 2 images can be read, the first because: .*0\.png"):
        made(here, images="bad")
