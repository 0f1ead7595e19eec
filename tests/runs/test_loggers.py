"""`metrics.csv` that a resumed run continues, whatever happened to it."""

import pytest

from dml.errors import Note
from dml.runs.loggers import AppendingWriter, keep_metrics, read_rows

HEADER, ROWS = b"step,train/loss\n", b"0,1.5\n1,1.25\n2,1.0\n"


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (HEADER + ROWS + b"3", ["0", "1", "2"]),  # cut short by a kill
        (HEADER + b"0,1.5\n\x00\xff\xfe\x80,\n2,1.0\n", ["0", "2"]),
        (HEADER + b'0,"1.5\n1,1.25\n', ["1"]),
        (HEADER + b"0,1.5\n1,1.25,7\n\n2,\x001\n", ["0"]),
        (HEADER + b"0,1.5\nstep,train/loss\n1,1.0\n-1,1.0\n1.5,1.0\n", ["0", "1"]),
        (HEADER + b"0,1.5\n" + b"\x00" * 300_000, ["0"]),
        (b"epoch,loss\n" + ROWS, []),
        (b"step,step\n0,0\n", []),
        (ROWS, []),
        (bytes(range(256)) * 50, []),
        (b'"' * 200_000, []),
        (b"", []),
    ],
)
def test_what_can_be_read_of_a_damaged_file_is_kept_and_so_is_the_file(tmp_path, content, kept):
    file = tmp_path / "metrics.csv"
    file.write_bytes(content)
    with pytest.warns(Note, match=r"metrics\.csv goes on without") as notes:
        keep_metrics(tmp_path, before=5)
    assert len(notes) == 1
    assert (tmp_path / "older" / "metrics.csv").read_bytes() == content
    assert [row["step"] for row in (read_rows(file) if file.exists() else [])] == kept
    AppendingWriter(str(tmp_path)).save()
    writer = AppendingWriter(str(tmp_path))
    writer.log_metrics({"val/recall_at_1": 0.5}, 7)
    writer.save()
    assert [row["step"] for row in read_rows(file)] == [*kept, "7"]


def test_a_writer_made_before_the_file_is_mended_goes_on_with_the_mended_one(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_bytes(b"\xff\x00,step\n\x80\n")
    writer = AppendingWriter(str(tmp_path))
    with pytest.warns(Note):
        keep_metrics(tmp_path, before=5)
    writer.log_metrics({"train/loss": 0.5}, 7)
    writer.save()
    assert file.read_text().split() == ["step,train/loss", "7,0.5"]
