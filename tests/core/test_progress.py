"""Progress bars: in notebooks, and of several threads at once on one terminal."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest

from mien.core import progress
from mien.core.progress import progress_bar


class Handle:
    def __init__(self, shown: list[dict[str, str]]) -> None:
        self._shown = shown

    def update(self, content: dict[str, str], raw: bool) -> None:
        assert raw
        self._shown.append(content)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What a made-up notebook is told to show."""
    shown: list[dict[str, str]] = []

    def display(content: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw and display_id
        shown.append(content)
        return Handle(shown)

    shell = type("ZMQInteractiveShell", (), {})()
    package, module = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython, module.display = lambda: shell, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress, "NOTEBOOK_UPDATE_S", 0.0)
    return shown


def test_a_notebook_shows_a_bar_and_then_a_line(notebook: list[dict[str, str]]) -> None:
    with progress_bar("<clip>.mp4", 4.0, done=1.0) as bar:
        bar.advance(1.0, "25 frames")
    first, second, last = notebook
    assert 'value="0.250"' in first["text/html"] and "&lt;clip&gt;.mp4" in first["text/html"]
    assert 'value="0.500"' in second["text/html"] and "25 frames" in second["text/html"]
    assert last == {"text/plain": "<clip>.mp4: 25 frames"}


def test_a_quiet_notebook_shows_nothing(notebook: list[dict[str, str]]) -> None:
    with progress_bar("clip.mp4", None, quiet=True) as bar:
        bar.advance(1.0)
    assert notebook == []


def test_bars_of_threads_share_the_terminal_until_the_last_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Display:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments, **options: calls.append(name)

    monkeypatch.setattr(progress, "_create_display", Display)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    began, first_ended = Barrier(2), Barrier(2)

    def run(is_first: bool) -> None:
        with progress_bar("one", 2.0) as bar:
            began.wait()
            if is_first:
                bar.advance(2.0)
            else:
                first_ended.wait()
                bar.advance(2.0)
        if is_first:
            first_ended.wait()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, [True, False])) == [None, None]
    assert calls == ["start", "add_task", "add_task", "update", "remove_task", "update", "remove_task", "stop"]
    assert progress._display is None
