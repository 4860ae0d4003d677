"""Write docs/commands.md from the program's own help, so that the two cannot differ.

python docs/generate.py            write it
python docs/generate.py --check    exit 1 if it is not up to date
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from mien.app.cli import app, main

PAGE = Path(__file__).resolve().parent / "commands.md"


def verbs() -> Iterator[list[str]]:
    """The program, its commands, and the commands of its groups."""
    yield []
    for name, command in typer.main.get_command(app).commands.items():
        yield [name]
        for below in getattr(command, "commands", {}):
            yield [name, below]


def help_of(verb: list[str]) -> str:
    os.environ["COLUMNS"] = "110"
    with contextlib.redirect_stdout(io.StringIO()) as text:
        main([*verb, "--help"])
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())


def page() -> str:
    parts = ["# Commands", "Written by `make docs` from the program's own help.",
             "Exit codes: 0 all done · 1 some of several inputs failed · 2 nothing was done · 130 interrupted. Errors go to stderr as\n"
             "one line, `mien: NAME: what was found; what to do`; `MIEN_DEBUG=1` shows the traceback."]  # fmt: skip
    for verb in verbs():
        parts += [f"## `{' '.join(['mien', *verb])}`", f"```\n{help_of(verb)}\n```"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0
            if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
            else "docs/commands.md is out of date: run make docs"
        )
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
