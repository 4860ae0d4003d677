"""CSV that a spreadsheet can open: text that it would take for a formula is written with an apostrophe, and read without it.

The rule is OWASP's for CSV injection: a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return is data, and a
file named ``=cmd|calc.mp4`` must not become a formula. Numbers are left as they are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import IO, Any

#: Text that would begin a formula; or that would be read back as such, since it begins with our own apostrophe.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape_formula(value: Any) -> Any:
    """Put an apostrophe before text that would begin a formula; anything else stays as it is."""
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def unescape_formula(text: str) -> str:
    """The text that `guard_cell` was given."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text[1:]) else text


class CsvWriter:
    """Rows of a CSV with ``\\n`` line ends, their text guarded."""

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")

    def writerow(self, row: Iterable[Any]) -> None:
        self._writer.writerow([escape_formula(value) for value in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        for row in rows:
            self.writerow(row)
