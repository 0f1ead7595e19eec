"""Checks of a dataset before training: the split, its files, and copies of the same image."""

import hashlib
import os
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import local
from typing import Any, TypeVar

import numpy as np

from dml.data.read_image import opened, read_image
from dml.data.split import Entry, Split
from dml.errors import UserError, note, quote

T = TypeVar("T")
TAIL_BYTES = 1024
LISTED = 20
AT_ONCE = 64  # files that a thread takes at a time
ROLES = {"train": "training", "query": "test", "gallery": "gallery"}


def check_dataset(split: Split, decode: bool = False, trains: bool = True) -> None:
    """All checks before training: the split, every file's header or all of the file, copies.

    Args:
        split: the dataset.
        decode: decode every file, rather than read its header.
        trains: whether it is trained on; where not, there may be no training images, and their files may be gone.
    """
    check_split(split, trains)
    if not trains:
        split = replace(split, train=split.train.subset(np.arange(0)))
    check_files([entry.image for entry in _on_disk(split.entries())], decode)
    warn_of_copies(split)


def check_split(split: Split, trains: bool = True) -> None:
    """Refuse a split that would give wrong figures.

    Raises:
        UserError: a side without images; a class on both sides; two classes whose names look the same; a name or
            a file listed twice; no query with another image of its class to find.
    """
    for role, samples in split.roles().items():
        if len(samples) == 0 and (trains or role != "train"):
            hint = ", and that dataset.test_classes does not name every class" if role == "train" else ""
            raise UserError(f"The dataset has no {ROLES[role]} images: check dataset.root{hint}.")
    train, *test = (samples.labels for samples in split.roles().values())
    if len(shared := np.intersect1d(train, np.concatenate(test))):
        both = [str(split.classes[label]) for label in shared]
        raise UserError(
            f"The dataset has class {quote(both)} in training and in test: retrieval is judged on classes never "
            "trained on, so put all images of a class on one side."
        )
    _check_class_names([str(name) for name in split.classes])
    _check_listed_once(list(split.entries()))
    _check_something_to_find(split)


def _check_class_names(names: Sequence[str]) -> None:
    """Refuse class names that look the same; warn of those that differ in case only."""
    for first, second, *_ in _grouped(names, map(_visible, names)):
        raise UserError(
            f"The classes {first!a} and {second!a} look the same (white space, invisible characters or "
            "the Unicode form differ), so one class may be on both sides: give them one name."
        )
    if groups := _grouped(names, map(str.casefold, names)):
        more = f" (and {len(groups) - 1:,} more such pairs)" if len(groups) > 1 else ""
        note(
            f"The classes '{groups[0][0]}' and '{groups[0][1]}'{more} differ only in upper and lower case: if they are "
            "one class, give them one name."
        )


def _visible(name: str) -> str:
    """What a person sees of a name: composed letters, single spaces inside and none around, no format characters."""
    printed = "".join(c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c) != "Cf")
    return " ".join(printed.split())


def _check_listed_once(images: Sequence[Entry]) -> None:
    """Refuse an image that is listed twice, under the same name or as the same file."""
    for first, second, *_ in _grouped(images, [image.name for image in images]):
        raise UserError(
            f"The image '{first.name}' is listed twice, in {ROLES[first.role]} and in {ROLES[second.role]}: "
            "list every image once."
        )
    # `realpath` looks at every folder of a path; of a file that is no link, only its own folder's can differ.
    real_folder = cache(os.path.realpath)

    def real(image: Entry) -> str:
        folder, name = os.path.split(image.image)
        is_link = os.path.islink(image.image)
        return os.path.realpath(image.image) if is_link else f"{real_folder(folder)}/{name}"

    files = _on_disk(images)
    for first, second, *_ in _grouped(files, map(real, files)):
        raise UserError(
            f"'{first.name}' ({ROLES[first.role]}) and '{second.name}' ({ROLES[second.role]}) are the same file, "
            f"{real(second)}: list every image once."
        )


def _check_something_to_find(split: Split) -> None:
    """Warn of test classes without a second image, and of a single class; refuse a test set without any pair."""
    tested = np.unique(split.query.labels)
    searched = split.query.labels if split.gallery is None else split.gallery.labels
    found_per_class = np.bincount(searched, minlength=len(split.classes)) - (split.gallery is None)
    alone = [str(split.classes[label]) for label in tested if found_per_class[label] < 1]
    if len(alone) == len(tested):
        raise UserError(
            f"The dataset has no test class with a second image to find, beginning with {quote(alone)}."
        )
    if len(np.unique(searched)) == 1:
        note(
            f"The dataset has one class to search, '{split.classes[searched[0]]}': whatever is found is right, so the "
            "figures say nothing."
        )
    if alone:
        note(
            f"The dataset has test classes without a second image to find: {quote(alone)}; "
            "their images are searched but not counted as queries."
        )


class BadFiles(UserError):
    """Images that cannot be used; the message names the first, `problems` is a sentence on each."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = f" (and {len(problems) - 1:,} more such files)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0].rstrip('.')}{more}.")
        self.problems = problems


def check_files(files: Sequence[Path], decode: bool = False) -> None:
    """Raise `BadFiles` if some files are missing, locked, empty, thinner than 1:256, no images or, if decoded, damaged.

    Without `decode` only headers are read, about 0.1 ms a file; what is damaged further on is found in training.
    """
    if problems := [problem for problem in _problems(files, decode) if problem]:
        raise BadFiles(problems)


def without_bad_files(split: Split) -> tuple[Split, list[str]]:
    """The split without the images that cannot be decoded, and their names; a note lists them."""
    files = [entry.image for entry in _on_disk(split.entries())]
    bad = {file for file, problem in zip(files, _problems(files, decode=True), strict=True) if problem}
    if not bad:
        return split, []
    left_out = [entry.name for entry in _on_disk(split.entries()) if entry.image in bad]
    more = f" and {len(left_out) - LISTED:,} more" if len(left_out) > LISTED else ""
    note(
        f"Images that cannot be decoded are left out, {len(left_out):,}: {', '.join(left_out[:LISTED])}{more}."
    )
    kept: dict[str, Any] = {
        role: samples.subset(np.array([image not in bad for image in samples.images], dtype=bool))
        for role, samples in split.roles().items()
        if not isinstance(samples.images, np.ndarray)
    }
    return replace(split, **kept), left_out


def _problems(files: Sequence[Path], decode: bool) -> list[str | None]:
    """What is wrong with each file; what Pillow warns of others becomes a note that names a file.

    Raises:
        UserError: memory or open files ran out, which says nothing about the file.
    """
    here, warned = local(), defaultdict(list)

    def problem(file: Path) -> str | None:
        here.file = file
        try:
            if decode:
                read_image(file, channels=3)
            else:
                with opened(file):
                    pass
        except UserError as error:
            if isinstance(error.__cause__, MemoryError):
                raise
            return str(error)
        return None

    # Here and not around each file, since all threads share the filters.
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: warned[str(message)].append(here.file)
        problems = _of_each(problem, files, threads_a_core=1 if decode else 4)
    bad = {file for file, found in zip(files, problems, strict=True) if found}
    for message, of in warned.items():
        if good := sorted(str(file) for file in {*of} - bad):
            note(f"{quote(good)}: {message}")
    return problems


def warn_of_copies(split: Split) -> None:
    """One note if images have the same bytes: within the test set, a copy is a hit without any learning."""
    groups = copies(split)
    if not groups:
        return
    tests = [group for group in groups if _is_sure_hit(group, split.gallery is not None)]
    across = [group for group in groups if len({image.role == "train" for image in group}) > 1]
    first, second, *_ = (tests or across or groups)[0]
    note(
        f"{sum(map(len, groups)):,} images are byte for byte the same as another, such as '{first.name}' and "
        f"'{second.name}'; in {len(tests):,} such groups a query finds its own copy, and {len(across):,} are in "
        "both training and test: leave the copies out, or report them with the figures."
    )


def _is_sure_hit(group: list[Entry], has_gallery: bool) -> bool:
    """Whether a query and an image of its class that it searches are both in a group of copies."""
    queries = [image.label for image in group if image.role == "query"]
    gallery = {image.label for image in group if image.role == "gallery"}
    return not gallery.isdisjoint(queries) if has_gallery else len(set(queries)) < len(queries)


def copies(split: Split) -> list[list[Entry]]:
    """Groups of images with the same bytes.

    Only files of equal size are opened, for their last bytes; only files that agree in these as well are read whole.
    """
    images = list(split.entries())
    in_memory = [image for image in images if isinstance(image.image, np.ndarray)]
    same = _on_disk(images)
    for key in (os.path.getsize, _tail, lambda file: hashlib.sha256(file.read_bytes()).digest()):
        groups = _grouped(same, _of_each(key, [file.image for file in same]))
        same = [file for group in groups for file in group]
    return _grouped(in_memory, [image.image.tobytes() for image in in_memory]) + groups


def _tail(file: Path) -> bytes:
    """The last bytes of a file, in which compressed images of one size differ as surely as anywhere."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
        return stream.read()


def _grouped(items: Sequence[T], keys: Iterable[Hashable]) -> list[list[T]]:
    """The items that share a key with another item."""
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for item, key in zip(items, keys, strict=True):
        groups[key].append(item)
    return [group for group in groups.values() if len(group) > 1]


def _of_each(function: Callable[[Path], T], files: Sequence[Path], threads_a_core: int = 4) -> list[T]:
    """The function's value for every file; on more threads than cores, since a network disk is slow to answer."""

    def part(start: int) -> list[T]:
        return [function(file) for file in files[start : start + AT_ONCE]]

    # Not multiprocessing's ThreadPool: without memory for its threads it fails by an AttributeError of its own.
    with ThreadPoolExecutor(min(32, threads_a_core * (os.cpu_count() or 1))) as pool:
        return [value for values in pool.map(part, range(0, len(files), AT_ONCE)) for value in values]


def _on_disk(images: Iterable[Entry]) -> list[Entry]:
    return [image for image in images if not isinstance(image.image, np.ndarray)]
