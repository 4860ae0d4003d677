"""Words to the person: help, and errors as one line on stderr (`mien: NAME: FOUND; CURE`)."""

from __future__ import annotations

import os

import typer

from mien.core.errors import MienError
from mien.core.memory import lacks_memory
from mien.core.progress import say


def complain(message: str) -> None:
    """One line, whatever the message holds."""
    say("mien: " + " ".join(message.split()), error=True)


def explain(error: Exception, place: str = "") -> str:
    """The message of an error; ``place`` says where one happened that nobody foresaw.

    With MIEN_DEBUG=1 it raises the error instead, for its traceback.
    """
    if os.environ.get("MIEN_DEBUG", "0") not in ("", "0"):
        raise error
    if isinstance(error, MienError):
        return str(error)
    if lacks_memory(error):
        return f"{place}there is not enough memory; try smaller or fewer inputs, or end other programs"
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename and str(error.filename) not in place else ""
        return f"{place}{named}the operating system says no ({error.strerror}); check the place and its permissions"
    return f"{place}unexpected {type(error).__name__}: {error}; set MIEN_DEBUG=1 to see where, and please report it"


def counted(count: int, word: str) -> str:
    """``1 face``, ``2,000 faces``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def print_help(context: typer.Context) -> None:
    """The help of a group of verbs that was named without a verb."""
    if context.invoked_subcommand is None:
        say(context.get_help())
