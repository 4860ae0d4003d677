"""CSV cells that are safe in a spreadsheet: text that could be a formula is written with an apostrophe, and read without it.

This follows OWASP's rule against CSV injection. It concerns text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage
return, such as a file named ``=cmd|calc.mp4``. Numbers are not changed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import IO, Any

#: Text that begins a formula, or begins with apostrophes before one: reading removes one apostrophe.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape_formula(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would read as a formula. Other values are returned unchanged."""
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def unescape_formula(text: str) -> str:
    """Return the text that was given to `escape_formula`."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text[1:]) else text


class CsvWriter:
    """Writes the rows of a CSV with ``\\n`` line ends and escaped formulas."""

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow([escape_formula(value) for value in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)
