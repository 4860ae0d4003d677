"""The rooms and the one direction of imports, as docs/architecture.md draws them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: A room may import itself and the rooms before it.
ORDER = (
    "core",
    "data",
    "evaluation",
    "analysis",
    "models",
    "training",
    "explanation",
    "reproduction",
    "service",
    "cli",
)
FILES = sorted((ROOT / "mien").rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("mien.")}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name != "mien"], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_imports_go_one_way(path: Path) -> None:
    room = path.relative_to(ROOT / "mien").parts[0]
    assert imported_rooms(path) <= set(ORDER[: ORDER.index(room) + 1])


def test_every_room_is_in_the_order() -> None:
    assert {path.name for path in (ROOT / "mien").iterdir() if (path / "__init__.py").exists()} == set(ORDER)


def test_the_architecture_document_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    absent = [path.name for path in FILES if path.name != "__init__.py" and path.name not in text]
    assert absent == []
