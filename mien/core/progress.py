"""Progress bars on a terminal and in notebooks, and text lines that do not break them."""

from __future__ import annotations

import html
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from mien.core.errors import escape_controls

#: The display on the terminal, and how many bars it has. Nested bars are lines of it.
_display: Any = None
_bar_count = 0
_LOCK = threading.Lock()

#: Seconds between two updates of a bar in a notebook.
NOTEBOOK_UPDATE_S = 0.2


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


class _NotebookBar:
    """A bar in the output of a notebook's cell, which a line of text replaces at the end. It needs no widgets."""

    def __init__(self, show: Callable[..., Any], title: str, total: float | None, done: float) -> None:
        self._title, self._total, self._done, self._text = title, total, done, ""
        self._shown_s = time.monotonic()
        self._handle = show({"text/html": self._to_html(), "text/plain": title}, raw=True, display_id=True)

    def advance(self, amount: float, text: str = "") -> None:
        self._done += amount
        self._text = text or self._text
        if time.monotonic() - self._shown_s >= NOTEBOOK_UPDATE_S:
            self._shown_s = time.monotonic()
            self._handle.update({"text/html": self._to_html(), "text/plain": self._title}, raw=True)

    def close(self) -> None:
        """Replace the bar by a line of text."""
        self._handle.update({"text/plain": f"{self._title}: {self._text or 'done'}"}, raw=True)

    def _to_html(self) -> str:
        value = "" if not self._total else f' value="{min(1.0, self._done / self._total):.3f}"'
        return f"{html.escape(self._title)} <progress{value}></progress> {html.escape(self._text)}"


def _find_notebook_display() -> Callable[..., Any] | None:
    """Return the function that shows something below a notebook's cell; None outside of notebooks."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import display

    return cast(Callable[..., Any], display)


@contextmanager
def progress_bar(title: str, total: float | None, done: float = 0, quiet: bool = False) -> Iterator[ProgressBar]:
    """Show a bar with share, text and remaining time on stderr, if it is a terminal, or in a notebook; none if ``quiet``.

    Several threads may have bars at once.
    """
    if quiet:
        yield _SilentBar()
        return
    if (show := _find_notebook_display()) is not None:
        bar = _NotebookBar(show, escape_controls(title), total, done)
        try:
            yield bar
        finally:
            bar.close()
        return
    if not sys.stderr.isatty():
        yield _SilentBar()
        return
    display = _enter_display()
    try:
        task = display.add_task(escape_controls(title), total=total, completed=done, text="")
        try:
            yield _TerminalBar(display, task)
        finally:
            display.remove_task(task)
    finally:
        _leave_display()


def _enter_display() -> Any:
    """Return the display on the terminal; the first bar starts it."""
    global _display, _bar_count
    with _LOCK:
        if _display is None:
            _display = _create_display()
            _display.start()
        _bar_count += 1
        return _display


def _leave_display() -> None:
    """Stop the display with the last bar."""
    global _display, _bar_count
    with _LOCK:
        _bar_count -= 1
        if not _bar_count:
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
