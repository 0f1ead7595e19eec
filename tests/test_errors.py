"""Notes are printed as one line, and nothing else is changed."""

import warnings

import pytest

from dml.errors import Note, printed_notes


def test_a_note_is_one_line_on_stderr(capsys):
    with printed_notes():
        warnings.warn("two of a kind.", Note, stacklevel=1)
    assert capsys.readouterr().err == "Note: two of a kind.\n"


def test_other_warnings_are_as_ever(monkeypatch):
    with pytest.warns(UserWarning, match="from a library"), printed_notes():
        warnings.warn("from a library", UserWarning, stacklevel=1)
