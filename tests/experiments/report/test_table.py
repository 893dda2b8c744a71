"""The one table and its one number format."""

import io
import math

import pytest
from rich.console import Console

from experiments.report.intervals import Estimate, estimate, median
from experiments.report.table import Table, number, show, text


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [
        (0.0, False, "0"),
        (3, False, "3"),
        (1024, False, "1,024"),
        (1234.5, False, "1,234"),
        (-123.45, False, "-123"),
        (12.345, False, "12.3"),
        (1.2345, True, "+1.23"),
        (0.99999, False, "1.00"),
        (0.04449, False, "0.0445"),
        (0.00123, False, "0.00123"),
        (-0.00012345, False, "-1.2e-4"),
        (1.5e6, True, "+1.5e6"),
        (math.nan, False, "–"),
        (math.inf, False, "∞"),
        (-math.inf, False, "-∞"),
    ],
)
def test_numbers_have_three_digits(value, signed, expected):
    assert number(value, signed) == expected


def test_cells():
    assert text(None) == "–"
    assert text("a") == "a"
    found = Estimate(1.0, 0.5, 1.5, 3, 4)
    assert text(found) == "1.00 [0.500, 1.50]*"
    assert text(found, signed=True, intervals=False) == "+1.00*"
    assert text(estimate([])) == "–"
    assert text(median([1.0, 2.0])) == "1.50"


def test_one_table_in_every_form():
    rows = [("a", estimate([1.0, 2.0, 3.0]), None), ("b", 0.5, 7)]
    table = Table("What is shown, and how", ("name", "mean, of all", "n"), rows, note="Read so.")
    half = 4.302653 / math.sqrt(3)
    interval = f"[{number(2 - half)}, {number(2 + half)}]"
    assert table.markdown() == (
        "Read so.\n\n| name | mean, of all | n |\n| --- | --: | --: |\n"
        f"| a | 2.00 {interval} | – |\n| b | 0.500 | 7 |\n"
    )
    headings, first, second = table.csv().splitlines()
    assert headings == 'name,"mean, of all","mean, of all, low","mean, of all, high",n'
    assert first.startswith("a,2.0,-0.48")
    assert second == "b,0.5,,,7"
    assert table.file_name == "what_is_shown_and_how"
    wide, narrow = io.StringIO(), io.StringIO()
    show([table], Console(file=wide))
    show([table], Console(file=narrow, width=24, force_terminal=True))
    assert interval in wide.getvalue()
    assert interval not in narrow.getvalue()
    assert "2.00" in narrow.getvalue()
