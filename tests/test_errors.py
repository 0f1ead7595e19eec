"""Notes are printed as one line, and nothing else is changed; names that are no text can be printed."""

import os
import warnings

import pytest

from dml.errors import Note, printable, printed_notes


def test_a_note_is_one_line_on_stderr(capsys):
    with printed_notes():
        warnings.warn("two of a kind.", Note, stacklevel=1)
    assert capsys.readouterr().err == "Note: two of a kind.\n"


def test_only_the_first_process_prints_it(capsys, monkeypatch):
    monkeypatch.setattr("lightning_utilities.core.rank_zero.rank_zero_only.rank", 1, raising=False)
    with printed_notes():
        warnings.warn("two of a kind.", Note, stacklevel=1)
    assert capsys.readouterr().err == ""


def test_other_warnings_are_unchanged():
    with pytest.warns(UserWarning, match="from a library"), printed_notes():
        warnings.warn("from a library", UserWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("name", "drawn"), [("größe 中", "größe 中"), (os.fsdecode(b"z\xe9"), "z\N{REPLACEMENT CHARACTER}")]
)
def test_what_is_no_text_is_replaced(name, drawn):
    assert printable(name) == drawn
