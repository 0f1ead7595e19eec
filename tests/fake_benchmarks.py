"""The benchmarks' folders as their archives unpack, with images of 8×8 pixels or none at all; and a server for them.

`Counts` says how many classes and images; with `pixels=False` only the annotation files are written, which is
enough to load a split, so that the published counts can be tested without the data.
"""

import hashlib
import shutil
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from dml.data.download import Source
from dml.data.split import Counts

TINY = Counts(train_classes=2, test_classes=3, train_images=5, query_images=7)
TINY_INSHOP = Counts(train_classes=2, test_classes=3, train_images=5, query_images=4, gallery_images=6)
MAKES = (
    "AM General Hummer SUV 2000",
    "Eagle Talon Hatchback 1998",
    "FIAT 500 Abarth 2012",
    "Volvo 240 Sedan 1993",
)


def write_image(file: Path, seed: int | None = None) -> None:
    """An image of 8×8 random pixels, another for every name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(
        zlib.crc32(str(file).encode("utf-8", "surrogateescape")) if seed is None else seed
    )
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)


def write_tree(root: Path, sizes: dict[str, int]) -> Path:
    """`<class>/<number>.png`, so many of each."""
    for label, size in sizes.items():
        for number in range(size):
            write_image(root / label / f"{number}.png")
    return root


def write_drawings(root: Path, alphabets: dict[str, int]) -> Path:
    """`<alphabet>/<character>/<number>.png`, so many characters of 20 black-on-white drawings of 105×105 pixels."""
    rng = np.random.default_rng(0)
    for alphabet, characters in alphabets.items():
        for c in range(1, characters + 1):
            folder = root / alphabet / f"character{c:02}"
            folder.mkdir(parents=True)
            for drawer in range(1, 21):
                paper = rng.random((105, 105)) < 0.8
                Image.fromarray(paper).save(folder / f"{c:04}_{drawer:02}.png")
    return root


def write_cub(root: Path, counts: Counts = TINY, pixels: bool = True) -> Path:
    """CUB_200_2011/ with its own flags train_test_split.txt, which put every class on both sides."""
    top = root / "CUB_200_2011"
    (top / "images").mkdir(parents=True)
    classes = [f"{c + 1:03}.Bird_{c + 1}" for c in range(counts.train_classes + counts.test_classes)]
    labels = _labels(counts)
    paths = [f"{classes[c]}/Bird_{c + 1}_{i:04}.jpg" for i, c in enumerate(labels)]
    _write(top / "classes.txt", [f"{c + 1} {name}" for c, name in enumerate(classes)])
    _write(top / "images.txt", [f"{i + 1} {path}" for i, path in enumerate(paths)])
    _write(top / "image_class_labels.txt", [f"{i + 1} {c + 1}" for i, c in enumerate(labels)])
    _write(top / "train_test_split.txt", [f"{i + 1} {i % 2}" for i in range(len(labels))])
    _draw(top / "images", paths, pixels)
    return root


def write_sop(root: Path, counts: Counts = TINY, pixels: bool = True) -> Path:
    """Stanford_Online_Products/ with its two lists."""
    top = root / "Stanford_Online_Products"
    top.mkdir(parents=True)
    labels = _labels(counts)
    paths = [f"{('bicycle', 'sofa')[c % 2]}_final/{111_000 + c}_{i}.JPG" for i, c in enumerate(labels)]
    lines = [
        f"{i + 1} {c + 1} {c % 2 + 1} {path}" for i, (c, path) in enumerate(zip(labels, paths, strict=True))
    ]
    header = "image_id class_id super_class_id path"
    _write(top / "Ebay_train.txt", [header, *lines[: counts.train_images]])
    _write(top / "Ebay_test.txt", [header, *lines[counts.train_images :]])
    _draw(top, paths, pixels)
    return root


def write_inshop(root: Path, counts: Counts = TINY_INSHOP, pixels: bool = True) -> Path:
    """img/ and list_eval_partition.txt; query and gallery share their classes."""
    (root / "img").mkdir(parents=True)
    train = _spread(counts.train_images, counts.train_classes)
    query, gallery = (
        [counts.train_classes + c for c in _spread(size, counts.test_classes)]
        for size in (counts.query_images, counts.gallery_images)
    )
    rows = [
        (c, role)
        for role, labels in (("train", train), ("query", query), ("gallery", gallery))
        for c in labels
    ]
    paths = [f"img/WOMEN/Dresses/id_{c:08}/{i:02}_1_front.jpg" for i, (c, _) in enumerate(rows)]
    lines = [f"{path:<70} id_{c:08} {role}" for path, (c, role) in zip(paths, rows, strict=True)]
    header = [str(len(rows)), "image_name item_id evaluation_status"]
    _write(root / "list_eval_partition.txt", [*header, *lines])
    _draw(root, paths, pixels)
    return root


def write_cars(root: Path, counts: Counts = TINY, pixels: bool = True) -> Path:
    """car_ims/ and cars_annos.mat, whose own test flags put every class on both sides."""
    (root / "car_ims").mkdir(parents=True)
    labels = _labels(counts)
    paths = [f"car_ims/{i + 1:06}.jpg" for i in range(len(labels))]
    flags = [i % 2 for i in range(len(labels))]
    _write_annotations(root / "cars_annos.mat", labels, "relative_im_path", paths, flags)
    _draw(root, paths, pixels)
    return root


def write_cars_sides(root: Path, counts: Counts = TINY, pixels: bool = True, nested: bool = False) -> Path:
    """cars_train/, cars_test/ and devkit/: the official sides, every class on both, in no order."""
    labels = np.random.default_rng(0).permutation(_labels(counts)).tolist()
    half = (len(labels) + 1) // 2
    sides = {"cars_train": labels[:half], "cars_test": labels[half:]}
    annotations = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
    (root / "devkit").mkdir(parents=True)
    for side, chosen in sides.items():
        folder = root / side / side if nested else root / side
        folder.mkdir(parents=True)
        names = [f"{i + 1:05}.jpg" for i in range(len(chosen))]
        _write_annotations(root / "devkit" / annotations[side], chosen, "fname", names)
        _draw(folder, names, pixels)
    classes = [f"Car {c + 1}" for c in range(counts.train_classes + counts.test_classes)]
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": _cells(classes)})
    return root


def write_cars_folders(root: Path) -> Path:
    """train/<class>/ and test/<class>/ of four cars, 2 + 1 images of each."""
    for side, size in (("train", 2), ("test", 1)):
        write_tree(root / side, dict.fromkeys(MAKES, size))
    return root


def _spread(images: int, classes: int) -> list[int]:
    """Class of each image, as even as may be, in order."""
    return [i * classes // images for i in range(images)]


def _labels(counts: Counts) -> list[int]:
    test = _spread(counts.query_images, counts.test_classes)
    return _spread(counts.train_images, counts.train_classes) + [counts.train_classes + c for c in test]


def _write(file: Path, lines: Sequence[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines))


def _draw(folder: Path, paths: Sequence[str], pixels: bool) -> None:
    for path in paths if pixels else ():
        write_image(folder / path)


def _cells(values: Sequence[str]) -> np.ndarray:
    """A MATLAB cell array, (1, n)."""
    return np.array([*values, None], dtype=object)[None, :-1]


def _write_annotations(
    file: Path, labels: Sequence[int], path_field: str, paths: Sequence[str], flags: Sequence[int] = ()
) -> None:
    """A struct array `annotations`, (1, n), with boxes, class, path and, where given, test flags."""
    boxes = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]
    # The two kinds of file differ in the order of their fields.
    fields = [path_field, *boxes, "class", "test"] if flags else [*boxes, "class", path_field]
    annotations = np.zeros((1, len(labels)), dtype=[(field, object) for field in fields])
    for field in boxes:
        annotations[field] = 1
    annotations["class"] = [[c + 1 for c in labels]]
    annotations[path_field] = [list(paths)]
    if flags:
        annotations["test"] = [list(flags)]
    classes = _cells([f"Car {c + 1}" for c in range(max(labels) + 1)])
    savemat(file, {"annotations": annotations} | ({"class_names": classes} if flags else {}))


class Site:
    """A folder that is served over HTTP.

    Attributes:
        url: where.
        asked: the paths asked for.
        break_after: bytes of an answer after which the connection breaks off.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.asked: list[str] = []
        self.break_after: int | None = None

    def source(self, file: str, makes: str) -> Source:
        """The file of that name with its md5, at this address."""
        md5 = hashlib.md5((self.folder / file).read_bytes()).hexdigest()
        return Source(file, makes, md5, f"{self.url}/{file}")


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """Serve a new folder from a thread."""
    folder.mkdir(parents=True)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            super().do_GET()

        def copyfile(self, source: Any, outputfile: Any) -> None:
            if site.break_after is None:
                shutil.copyfileobj(source, outputfile)
            else:
                outputfile.write(source.read(site.break_after))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    site = Site(folder, f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
