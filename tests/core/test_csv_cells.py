"""Text of a CSV that a spreadsheet would take for a formula."""

from __future__ import annotations

import csv
import io

import pytest

from mien.core.csv_cells import CsvWriter, escape_formula, unescape_formula


@pytest.mark.parametrize(
    "text", ["=cmd|calc.mp4", "+1+1", "-photo.jpg", "@SUM(A1)", "\tx", "\rx", "'=1", "''=1", "--", "=1"]
)
def test_what_would_be_a_formula_is_written_with_an_apostrophe_and_read_as_it_was(text: str) -> None:
    assert escape_formula(text) == f"'{text}"
    assert unescape_formula(escape_formula(text)) == text


@pytest.mark.parametrize(
    "value", ["photo.jpg", "", "'quoted'", "'", "it's", "a=b", "-0.5", "+3", "-1e-5", -0.5, 7, None, True]
)
def test_anything_else_stays_as_it_is(value: object) -> None:
    assert escape_formula(value) == value
    if isinstance(value, str):
        assert unescape_formula(value) == value


def test_a_row_is_guarded_cell_by_cell() -> None:
    file = io.StringIO()
    CsvWriter(file).writerows([["path", "p_happy"], ["=a,b.jpg", -0.25]])
    assert file.getvalue() == 'path,p_happy\n"\'=a,b.jpg",-0.25\n'
    assert list(csv.reader(io.StringIO(file.getvalue())))[1] == ["'=a,b.jpg", "-0.25"]
