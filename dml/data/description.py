"""What a dataset holds, for a person to read."""

from dml.data.fingerprint import fingerprint
from dml.data.listing import count
from dml.data.split import Split


def describe(name: str, split: Split) -> str:
    """Images and classes of either side and, on a second line, the split's fingerprint."""
    size = count(split)
    gallery = f" that search a gallery of {size.gallery_images:,}" if split.gallery else ""
    return (
        f"{name}: {size.train_images:,} training images of {size.train_classes:,} classes, "
        f"{size.query_images:,} test images{gallery} of {size.test_classes:,} other classes.\n"
        f"Split fingerprint: {fingerprint(split)}"
    )
