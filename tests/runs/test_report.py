"""What people read."""

from dml.runs.report import print_figures, readable


def test_shares_have_four_digits_and_counts_none():
    assert readable("recall_at_1", 0.98765) == "0.9877"
    assert (
        readable("queries_without_positives", 1234.0)
        == readable("test/queries_without_positives", 1234.0)
        == "1,234"
    )


def test_columns_stand_side_by_side(capsys):
    figures = {
        "baselines": {"raw pixels": {"recall_at_1": 0.5}},
        "test/recall_at_1": 1.0,
        "test/nmi": 0.25,
        "intervals": {"test/recall_at_1": [0.98765, 1.0]},
        "seed": 0,
    }
    print_figures("title", figures, "trained")
    printed = capsys.readouterr().out
    assert printed.startswith("title\n")
    assert "│ recall_at_1 │ 0.5000     │ 1.0000 [0.988, 1.000] │" in printed
    assert "│ nmi         │ –          │ 0.2500                │" in printed
    assert "seed" not in printed.splitlines()[3:-2]
