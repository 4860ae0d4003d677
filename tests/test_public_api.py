"""What `import mien` offers, and that the page about it lists the same."""

from __future__ import annotations

import re

import mien
from tests.conftest import ROOT


def test_the_public_names_are_listed_and_can_be_imported() -> None:
    assert dir(mien) == sorted(mien.__all__)
    assert [name for name in mien.__all__ if getattr(mien, name) is None] == []


def test_the_page_about_python_lists_all_public_names() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    table = re.findall(r"(?m)^\| (`mien\..*?) \|", page)
    listed = set(re.findall(r"`mien\.(\w+)`", " ".join(table)))
    assert listed == set(mien.__all__)
