"""CUB-200-2011: 11,788 photographs of 200 kinds of birds."""

from pathlib import Path

from dml.data.datasets.annotations import parse_lines
from dml.data.download import Origin, Source, folder_of
from dml.data.split import Counts, Entry, Split, check_counts
from dml.errors import UserError

TOP = "CUB_200_2011"
COUNTS = Counts(train_classes=100, test_classes=100, train_images=5_864, query_images=5_924)
URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
ORIGIN = Origin(
    "cub",
    (Source("CUB_200_2011.tgz", makes=TOP, md5="97eceeb196236b17998738112f37df78", url=URL),),
    "or get CUB_200_2011.tgz by hand (Caltech data record 65de6-vp158, or a mirror of CUB-200-2011) and name it with "
    "--archive.",
)


def load(root: str | Path, download: bool = False, counts: Counts = COUNTS) -> Split:
    """Classes 1–100 train, 101–200 test and search one another; the archive's own flags are not used.

    Source: Wah, Branson, Welinder, Perona, Belongie, The Caltech-UCSD Birds-200-2011 Dataset, 2011; split of
    Song et al., CVPR 2016.

    Args:
        root: folder that holds CUB_200_2011/.
        download: fetch and unpack it if it is not there.
        counts: what to find; as many of the first classes as it says train.
    """
    root = Path(root)
    top = folder_of(root, ORIGIN, download)
    name_of = _read(top / "classes.txt", "<class id> <class name>")
    label_of = _read(top / "image_class_labels.txt", "<image id> <class id>")
    entries = []
    for image, path in _read(top / "images.txt", "<image id> <path>").items():
        label, folder = label_of.get(image, ""), Path(path).parent.name
        if name_of.get(label) != folder:
            raise UserError(
                f"{top / 'image_class_labels.txt'} puts image {image} in class {name_of.get(label)}, but it lies in "
                f"{folder}/: get it again."
            )
        role = "train" if int(label) <= counts.train_classes else "query"
        entries.append(Entry(role, folder, f"{TOP}/images/{path}", top / "images" / path))
    return check_counts(Split.of_files(entries), counts, "CUB-200-2011", root)


def _read(file: Path, form: str) -> dict[str, str]:
    """The second field of each numbered line, by number."""
    return {fields[0]: fields[1] for fields in parse_lines(file, r"(\d+)\s+(.+)", form)}
