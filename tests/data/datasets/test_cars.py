from pathlib import Path

import pytest
from fake_benchmarks import TINY, write_cars, write_cars_folders, write_cars_sides, write_cub

from dml.data.datasets import cars
from dml.data.split import Counts
from dml.errors import UserError


@pytest.mark.parametrize("write", [write_cars, write_cars_sides])
def test_the_published_counts(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    split = cars.load(write(tmp_path, cars.COUNTS, pixels=False))
    assert (len(split.train), len(split.query), split.gallery) == (8_054, 8_131, None)
    assert set(split.train.labels.tolist()) == set(range(98))
    assert set(split.query.labels.tolist()) == set(range(98, 196))


def test_classes_split_not_the_archives_flags(tmp_path: Path) -> None:
    split = cars.load(write_cars(tmp_path), counts=TINY)
    assert split.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert split.query.labels.tolist() == [2, 2, 2, 3, 3, 4, 4]
    assert split.classes == ["Car 1", "Car 2", "Car 3", "Car 4", "Car 5"]
    assert split.train.names[:2] == ["car_ims/000001.jpg", "car_ims/000002.jpg"]
    assert all(Path(image).is_file() for image in [*split.train.images, *split.query.images])


@pytest.mark.parametrize("nested", [False, True])
def test_the_official_sides(tmp_path: Path, nested: bool) -> None:
    split = cars.load(write_cars_sides(tmp_path, nested=nested), counts=TINY)
    assert split.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert split.query.labels.tolist() == [2, 2, 2, 3, 3, 4, 4]
    assert split.classes == ["Car 1", "Car 2", "Car 3", "Car 4", "Car 5"]
    assert all(Path(image).is_file() for image in [*split.train.images, *split.query.images])
    names = [*split.train.names, *split.query.names]
    assert sorted(names) == [
        *(f"cars_test/{i:05}.jpg" for i in range(1, 7)),
        *(f"cars_train/{i:05}.jpg" for i in range(1, 7)),
    ]


def test_the_sides_keep_each_images_class(tmp_path: Path) -> None:
    """The same class for the same image as MATLAB's own structure says, read another way."""
    from scipy.io import loadmat

    split = cars.load(write_cars_sides(tmp_path), counts=TINY)
    of_name = {}
    for part in (split.train, split.query):
        of_name |= dict(zip(part.names, part.labels.tolist(), strict=True))
    train = loadmat(tmp_path / "devkit" / "cars_train_annos.mat", struct_as_record=False)["annotations"][0]
    for row in train:
        assert of_name[f"cars_train/{row.fname[0]}"] == getattr(row, "class")[0, 0] - 1


def test_the_layout_of_torchvision_and_no_class_names(tmp_path: Path) -> None:
    base = write_cars_sides(tmp_path / "stanford_cars")
    (base / "devkit" / "cars_test_annos_withlabels.mat").rename(base / "cars_test_annos_withlabels.mat")
    (base / "devkit" / "cars_meta.mat").unlink()
    split = cars.load(tmp_path, counts=TINY)
    assert split.classes == [f"class {c}" for c in range(1, 6)]


def test_class_folders(tmp_path: Path) -> None:
    write_cars_folders(tmp_path / "car_data")
    split = cars.load(tmp_path, counts=Counts(2, 2, 6, 6))
    trained = {split.classes[label] for label in split.train.labels}
    assert trained == {"AM General Hummer SUV 2000", "Eagle Talon Hatchback 1998"}
    assert split.train.names[0] == "train/AM General Hummer SUV 2000/0.png"


def test_other_datasets_beside_it_are_not_taken_for_it(tmp_path: Path) -> None:
    write_cub(tmp_path)
    with pytest.raises(UserError, match="does not hold Cars196"):
        cars.load(tmp_path)


def test_folders_without_the_annotations_that_fit(tmp_path: Path) -> None:
    """As on Kaggle: the images of the official sides beside annotations of car_ims/."""
    write_cars_sides(tmp_path)
    (tmp_path / "devkit" / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels.mat.*dml.prepare cars --root"):
        cars.load(tmp_path)


def test_annotations_that_are_no_matlab_file(tmp_path: Path) -> None:
    (write_cars(tmp_path) / "cars_annos.mat").write_text("<html>moved</html>")
    with pytest.raises(
        UserError, match=r"cars_annos.mat is not a MATLAB file with '(class_names|annotations)'"
    ):
        cars.load(tmp_path, counts=TINY)


def test_annotations_without_labels(tmp_path: Path) -> None:
    write_cars_sides(tmp_path)
    (tmp_path / "devkit" / "cars_meta.mat").replace(tmp_path / "devkit" / "cars_train_annos.mat")
    with pytest.raises(UserError, match=r"cars_train_annos.mat is not a MATLAB file with 'annotations'"):
        cars.load(tmp_path, counts=TINY)
