"""A progress bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    def advance(self, amount: float, text: str = "") -> None:
        """Move on by ``amount``; ``text`` replaces the words behind the bar."""


class _Silent:
    def advance(self, amount: float, text: str = "") -> None:
        """Nothing is shown where nobody watches."""


class _Shown:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float, text: str = "") -> None:
        fields = {"text": text} if text else {}
        self._progress.update(self._task, advance=amount, **fields)


@contextmanager
def progress_bar(title: str, total: float | None, done: float = 0, quiet: bool = False) -> Iterator[Bar]:
    """A bar with share, words and time left on stderr, if that is a terminal and ``quiet`` is not set."""
    if quiet or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=60) as progress:
        yield _Shown(progress, progress.add_task(title, total=total, completed=done, text=""))
