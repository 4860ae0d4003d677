"""Messages to the person: help, and errors as one line on stderr (`mien: NAME: PROBLEM; HINT`)."""

from __future__ import annotations

import os
import re

import typer

from mien.core.errors import MienError, UsageError
from mien.core.memory import is_out_of_memory
from mien.core.progress import echo

#: A parameter in an error of the library, alone or with a value (see mien/core/errors.py).
_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)?)(?:=([^`]*))?`")


#: Parameters whose names have a unit that the option's does not.
_OPTIONS = {"smoothing_s": "smoothing"}


def name_options(text: str) -> str:
    """Write parameters in the text of an error as options of the command line.

    `` `out` `` becomes ``--out``, `` `skip_bad=True` `` ``--skip-bad``, `` `size=48` `` ``--size 48``, and a setting of a recipe,
    `` `schedule.epochs=10` ``, ``--set schedule.epochs=10``.
    """
    return _PARAMETER.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    if "." in name:
        return f"--set {name}={value}" if value is not None else f"--set {name}"
    option = _OPTIONS.get(name, name).replace("_", "-")
    return {"True": f"--{option}", "False": f"--no-{option}", None: f"--{option}"}.get(value, f"--{option} {value}")


def print_error(message: str) -> None:
    """One line, whatever the message holds."""
    echo("mien: " + " ".join(message.split()), error=True)


def format_error(error: Exception, place: str = "") -> str:
    """The message of an error; ``place`` says where one happened that nobody foresaw.

    With MIEN_DEBUG=1 it raises the error instead, for its traceback.
    """
    if os.environ.get("MIEN_DEBUG", "0") not in ("", "0"):
        raise error
    if isinstance(error, MienError):
        own = isinstance(error, UsageError) or _PARAMETER.fullmatch(error.name)  # else the name is a file's, say
        return f"{name_options(error.name) if own else error.name}: {name_options(f'{error.problem}; {error.hint}')}"
    if is_out_of_memory(error):
        return f"{place}there is not enough memory; try smaller or fewer inputs, or end other programs"
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename and str(error.filename) not in place else ""
        return f"{place}{named}the operating system says no ({error.strerror}); check the place and its permissions"
    return f"{place}unexpected {type(error).__name__}: {error}; set MIEN_DEBUG=1 to see where, and please report it"


def pluralize(count: int, word: str) -> str:
    """``1 face``, ``2,000 faces``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def print_help(context: typer.Context) -> None:
    """The help of a group of verbs that was named without a verb."""
    if context.invoked_subcommand is None:
        echo(context.get_help())
