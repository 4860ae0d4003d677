"""What the tests of the program share: a folder of their own, and what it printed and wrote."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in a folder of its own, without a pulled detector: what defaults write stays there."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MIEN_DEBUG", raising=False)


def outputs(folder: str = "mien-out") -> list[str]:
    """All files but the list of whose outputs they are."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".outputs.jsonl")
    return sorted(path.relative_to(folder).as_posix() for path in files)


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mien: ")
    return lines[0]
