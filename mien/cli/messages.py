"""What the program prints: results, tables, help, and errors as one line on stderr (`mien: NAME: PROBLEM; HINT`)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from typing import Any

import typer

from mien.core.errors import MienError, UsageError
from mien.core.memory import is_out_of_memory
from mien.core.progress import echo

#: A parameter in an error of the library, alone or with a value (see mien/core/errors.py).
_PARAMETER = re.compile(r"(\bset )?`([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)?)(?:=([^`]*))?`")


#: Parameters whose names have a unit that the option's does not.
_OPTIONS = {"smoothing_s": "smoothing"}


def name_options(text: str) -> str:
    """Write parameters in the text of an error as options of the command line.

    `` `out` `` becomes ``--out``, `` `skip_bad=True` `` ``--skip-bad``, `` `size=48` `` ``--size 48``, and a setting of a recipe,
    `` `schedule.epochs=10` ``, ``--set schedule.epochs=10``. The bare name of a setting stays as it is.
    """
    return _PARAMETER.sub(_option, text)


def _option(match: re.Match[str]) -> str:
    verb, name, value = match[1] or "", match[2], match[3]
    if "." in name:
        return f"{verb}{name}" if value is None else f"{'add ' if verb else ''}--set {name}={value}"
    option = _OPTIONS.get(name, name).replace("_", "-")
    return verb + {"True": f"--{option}", "False": f"--no-{option}", None: f"--{option}"}.get(
        value, f"--{option} {value}"
    )


def print_error(message: str) -> None:
    """Print an error as one line, whatever the message holds."""
    echo("mien: " + " ".join(message.split()), error=True)


def format_error(error: Exception, place: str = "") -> str:
    """Return the message of an error; ``place`` is put before errors that are not mien's own.

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
    """Return a count with its word, as in ``1 face`` or ``2,000 faces``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def emit(result: Any, text: str, *, as_json: bool, quiet: bool = False) -> None:
    """Print a result as one JSON document, or as text for people; with ``quiet`` no text."""
    if as_json:
        echo(json.dumps(result, indent=2))
    elif text and not quiet:
        echo(text)


def print_note(text: str, *, quiet: bool) -> None:
    """Print a line on stderr that is no error."""
    if text and not quiet:
        echo(text, error=True)


def format_table(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), indent: str = "") -> str:
    """Return rows, the first of which is the head, as plain columns: they fit any terminal, and other programs can cut them.

    The columns whose numbers are in ``left`` are aligned to the left, the others to the right.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        sized = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if column in left else cell.rjust(width) for column, (cell, width) in sized]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def print_help(context: typer.Context) -> None:
    """Print the help of a group of verbs that was named without a verb."""
    if context.invoked_subcommand is None:
        echo(context.get_help())
