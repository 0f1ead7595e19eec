from pathlib import Path

import pytest

from dml.data.datasets import manifest
from dml.errors import UserError

GOOD = ["1.jpg,a,train", "2.jpg,a,train", "3.jpg,b,test", "4.jpg,b,test"]


def write(root: Path, lines: list[str], header: str = "path,label,split", encoding: str = "utf-8") -> Path:
    (root / "manifest.csv").write_text("\n".join([header, *lines]), encoding=encoding)
    return root


def test_train_and_test(tmp_path: Path) -> None:
    split = manifest.load(write(tmp_path, GOOD))
    assert (split.classes, split.gallery) == (["a", "b"], None)
    assert split.train.images == [tmp_path / "1.jpg", tmp_path / "2.jpg"]
    assert split.query.labels.tolist() == [1, 1]
    assert split.query.names == ["3.jpg", "4.jpg"]


def test_query_and_gallery(tmp_path: Path) -> None:
    split = manifest.load(write(tmp_path, [*GOOD[:2], "3.jpg,b,query", "4.jpg,b,gallery"]))
    assert split.gallery is not None
    assert (split.query.names, split.gallery.names) == (["3.jpg"], ["4.jpg"])


def test_columns_in_any_order_and_more_of_them(tmp_path: Path) -> None:
    lines = ["train,x,a,1.jpg", "test,x,b,3.jpg", "test,x,b,4.jpg"]
    split = manifest.load(write(tmp_path, lines, header="split,colour,label,path", encoding="utf-8-sig"))
    assert split.train.names == ["1.jpg"]


def test_odd_names_and_absolute_paths(tmp_path: Path) -> None:
    lines = [*GOOD, '"a, b = c.jpg",a,train', "/elsewhere/Ω 5.jpg,a,train"]
    split = manifest.load(write(tmp_path, lines))
    assert split.train.images[2:] == [tmp_path / "a, b = c.jpg", Path("/elsewhere/Ω 5.jpg")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5.jpg,b,val", r"line 6: found path '5.jpg', label 'b', split 'val'; a line needs"),
        ("5.jpg,b", r"line 6: found path '5.jpg', label 'b', split None"),
        (",b,test", r"line 6: found path ''"),
        ("5.jpg,,test", r"line 6: found path '5.jpg', label ''"),
        ("a, b.jpg,b,test", r"line 6: .*\(a name with a comma goes in double quotes"),
        ("5.jpg,b,query", r"splits query, test, train: there must be train and test, or"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        manifest.load(write(tmp_path, [*GOOD, line]))


def test_semicolons(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"lacks the column 'path': .* separated by commas, .*'path;label;split'"
    ):
        manifest.load(write(tmp_path, [], header="path;label;split"))


def test_an_empty_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has the splits \(none\)"):
        manifest.load(write(tmp_path, []))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"path,label,split\n\xff\xfe,a,train\n",
            r"line 2, is not UTF-8: '\\xff\\xfe,a,train'; save the table",
        ),
        (b"path,label,split\n1.png,a,train\ncaf\xe9.png,a,train", r"line 3, is not UTF-8: 'caf\\xe9.png,a"),
        (b"path,label,split\r\n1.png,a,train\r\n2.png,caf\xe9,test\r\n", r"line 3, .*'2.png,caf\\xe9,test'"),
        (b"path,label,split\r1.png,a,train\r2.png,b,\xe9", r"line 3, is not UTF-8: '2.png,b,\\xe9'"),
        (b"\xef\xbb\xbfpath,label,split\n\xe9.png,a,train\n", r"line 2, is not UTF-8: '\\xe9.png,a,train'"),
        ("path,label,split\n1.png,a,train\n".encode("utf-16"), r"line 1, is not UTF-8: '\\xff\\xfep"),
        (b'path,label,split\n"1.png,a,train\n', r"line 2, is not CSV \(unexpected end of data\)"),
        (b'path,label,split\n"1"x.png,a,train\n', r"line 2, is not CSV \(',' expected after '\"'\)"),
    ],
)
def test_a_table_that_is_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"manifest\.csv, {said}"):
        manifest.load(tmp_path)


def test_capitals_and_no_training_images(tmp_path: Path) -> None:
    split = manifest.load(write(tmp_path, ["1.jpg,a,Test", "2.jpg,a,TEST"]))
    assert (len(split.train), len(split.query)) == (0, 2)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read the table .*other.csv: .* set dataset.file"):
        manifest.load(tmp_path, "other.csv")
