"""Progress bars on a terminal, and text lines that do not break them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mien.core.errors import escape_controls

#: The display on the terminal. Nested bars are lines of it.
_display: Any = None


class ProgressBar(Protocol):
    def advance(self, amount: float, text: str = "") -> None:
        """Advance by ``amount``; ``text`` replaces the text behind the bar."""


class _SilentBar:
    def advance(self, amount: float, text: str = "") -> None:
        """Show nothing: there is no terminal."""


class _TerminalBar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float, text: str = "") -> None:
        fields = {"text": text} if text else {}
        self._progress.update(self._task, advance=amount, **fields)


@contextmanager
def progress_bar(title: str, total: float | None, done: float = 0, quiet: bool = False) -> Iterator[ProgressBar]:
    """Show a bar with share, text and remaining time on stderr, if it is a terminal and ``quiet`` is not set."""
    global _display
    if quiet or not sys.stderr.isatty():
        yield _SilentBar()
        return
    outermost = _display is None
    if outermost:
        _display = _create_display()
        _display.start()
    task = _display.add_task(escape_controls(title), total=total, completed=done, text="")
    try:
        yield _TerminalBar(_display, task)
    finally:
        _display.remove_task(task)
        if outermost:
            _display.stop()
            _display = None


def echo(text: str, *, error: bool = False) -> None:
    """Print a line on stdout or stderr, above the bars if they are on the same terminal."""
    text = escape_controls(text, keep_newlines=True)  # file names may contain control sequences of a terminal
    stream = sys.stderr if error else sys.stdout
    if _display is not None and stream.isatty():
        _display.console.out(text, highlight=False)
    else:
        print(text, file=stream)


def _create_display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    # stdout is not redirected: results that are piped into a file must arrive there.
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=60,
        redirect_stdout=False,
        redirect_stderr=False,
    )
