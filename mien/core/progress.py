"""What a person sees while work goes on: bars on a terminal, and lines that do not tear them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mien.core.errors import escape_controls

#: The display on the terminal; a bar within a bar becomes its next line.
_display: Any = None


class ProgressBar(Protocol):
    def advance(self, amount: float, text: str = "") -> None:
        """Move on by ``amount``; ``text`` replaces the words behind the bar."""


class _SilentBar:
    def advance(self, amount: float, text: str = "") -> None:
        """Nothing is shown where nobody watches."""


class _TerminalBar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float, text: str = "") -> None:
        fields = {"text": text} if text else {}
        self._progress.update(self._task, advance=amount, **fields)


@contextmanager
def progress_bar(title: str, total: float | None, done: float = 0, quiet: bool = False) -> Iterator[ProgressBar]:
    """A bar with share, words and time left on stderr, if that is a terminal and ``quiet`` is not set."""
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
    """Print a line on stdout or stderr; above the bars, where they share a terminal with it."""
    text = escape_controls(text, keep_newlines=True)  # names of files may hold what a terminal obeys
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
    # Not redirected: a list of results that is piped into a file must arrive there.
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=60,
        redirect_stdout=False,
        redirect_stderr=False,
    )
