"""In-Shop Clothes Retrieval of DeepFashion: 52,712 photographs of 7,982 garments."""

from pathlib import Path

from dml.data.datasets.annotations import folders_of, parse_lines
from dml.data.download import Origin, Source, located
from dml.data.split import Counts, Entry, Split, check_counts
from dml.errors import UserError

LIST = "list_eval_partition.txt"
COUNTS = Counts(
    train_classes=3_997, test_classes=3_985, train_images=25_882, query_images=14_218, gallery_images=12_612
)
ORIGIN = Origin(
    "inshop",
    (Source("img.zip", makes="img", md5=None), Source(LIST, makes=LIST, md5=None)),
    f"""its licence wants a form filled in by hand:
  1. Read and sign the agreement at https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html.
  2. From 'In-shop Clothes Retrieval Benchmark' take Img/img.zip and Eval/{LIST}
     (not img_highres.zip, which has a password and other images).
  3. Put both into the root, or name them with --archive, and run this again.""",
)


def load(root: str | Path, download: bool = False, counts: Counts = COUNTS) -> Split:
    """Garments train or test as list_eval_partition.txt says; queries search the gallery only.

    Source: Liu, Luo, Qiu, Wang, Tang, DeepFashion: Powering Robust Clothes Recognition and Retrieval with
    Rich Annotations, CVPR 2016.

    Args:
        root: folder that holds img/ (or Img/img/) and list_eval_partition.txt (or Eval/…), itself or one
            level down.
        download: unpack img.zip if it lies in root; there is no public address to fetch it from.
        counts: what to find.
    """
    root = Path(root)
    sought = f"both img/ and {LIST} of the In-shop benchmark"
    images, partition = located(root, ORIGIN, lambda: _find(root), sought, download)
    pattern, form = r"img/(\S+)\s+(\S+)\s+(train|query|gallery)", "img/<path> <item id> train|query|gallery"
    entries = []
    for path, item, role in parse_lines(partition, pattern, form, header=2):
        if Path(path).parent.name != item:
            raise UserError(
                f"{partition} calls img/{path} an image of {item}, unlike its folder: get it again."
            )
        entries.append(Entry(role, item, f"img/{path}", images / path))
    return check_counts(Split.of_files(entries), counts, "In-shop Clothes Retrieval", root)


def _find(root: Path) -> tuple[Path, Path] | None:
    """The folder of images and the list, in any of the usual layouts."""
    for base in (root, *folders_of(root)):
        folders = [folder for folder in (base / "img", base / "Img" / "img") if folder.is_dir()]
        lists = [file for file in (base / LIST, base / "Eval" / LIST) if file.is_file()]
        if folders and lists:
            return folders[0], lists[0]
    return None
