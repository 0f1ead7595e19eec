"""Stanford Online Products: 120,053 photographs of 22,634 products."""

from collections import defaultdict
from pathlib import Path

from dml.data.datasets.annotations import parse_lines
from dml.data.download import Origin, Source, folder_of
from dml.data.split import Counts, Entry, Split, check_counts
from dml.errors import note, quote

TOP = "Stanford_Online_Products"
COUNTS = Counts(train_classes=11_318, test_classes=11_316, train_images=59_551, query_images=60_502)
URL = "http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip"
ORIGIN = Origin(
    "sop",
    (Source("Stanford_Online_Products.zip", makes=TOP, md5="7f73d41a2f44250d4779881525aea32e", url=URL),),
    "or get Stanford_Online_Products.zip by hand (the project's page is "
    "https://cvgl.stanford.edu/projects/lifted_struct/; there are mirrors) and name it with --archive.",
)
LISTS = {"train": "Ebay_train.txt", "query": "Ebay_test.txt"}


def load(root: str | Path, download: bool = False, counts: Counts = COUNTS) -> Split:
    """The products of Ebay_train.txt train, those of Ebay_test.txt test and search one another.

    Source: Song, Xiang, Jegelka, Savarese, Deep Metric Learning via Lifted Structured Feature Embedding,
    CVPR 2016. File names begin with the number of the listing, `<listing>_<image>.JPG`; a product whose images
    come from several is named in a note.

    Args:
        root: folder that holds Stanford_Online_Products/.
        download: fetch and unpack it if it is not there.
        counts: what to find.
    """
    root = Path(root)
    top = folder_of(root, ORIGIN, download)
    pattern, form = r"\d+\s+(\d+)\s+\d+\s+(.+)", "<image id> <class id> <super class id> <path>"
    entries = [
        Entry(role, f"product {product}", f"{TOP}/{path}", top / path)
        for role, file in LISTS.items()
        for product, path in parse_lines(top / file, pattern, form, header=1)
    ]
    listings = defaultdict(set)
    for image in entries:
        listings[image.label].add(image.name.rpartition("_")[0])
    if mixed := [product for product, names in listings.items() if len(names) > 1]:
        note(
            f"By their file names, the images of {quote(mixed)} in {top} come from more than one listing: labels may "
            "be swapped."
        )
    return check_counts(Split.of_files(entries), counts, "Stanford Online Products", root)
