"""Write docs/commands.md from the program's help; reproduction.md and accuracy.md from the logs of `mien reproduce`.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 if one is not up to date
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mien.cli.main import VERBS, load_verb, main

DOCS = Path(__file__).resolve().parent


def iterate_verbs() -> Iterator[list[str]]:
    """Yield the words of the program, of its commands, and of the commands of its groups."""
    yield []
    for name in VERBS:
        yield [name]
        for below in getattr(load_verb(name), "commands", {}):
            yield [name, below]


def format_help(verb: list[str]) -> str:
    os.environ["COLUMNS"] = "110"
    with contextlib.redirect_stdout(io.StringIO()) as text:
        main([*verb, "--help"])
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())


def make_commands_page() -> str:
    """docs/commands.md."""
    parts = ["# Commands", "Written by `make docs` from the program's own help.",
             "Exit codes: 0 all done · 1 some inputs failed or were damaged · 2 nothing was done · 130 interrupted. Errors are one line on\n"
             "stderr, `mien: NAME: PROBLEM; HINT`. `MIEN_DEBUG=1` shows the traceback."]  # fmt: skip
    for verb in iterate_verbs():
        parts += [f"## `{' '.join(['mien', *verb])}`", f"```\n{format_help(verb)}\n```"]
    return "\n\n".join(parts) + "\n"


def write_reproduction(page: Path) -> None:
    """docs/reproduction.md and its curves, from the logs in docs/reproduction/."""
    from mien.reproduction.page import read_results, write_page

    write_page(read_results(DOCS / "reproduction"), page, page.parent / "reproduction")


def make_accuracy_page() -> str:
    """docs/accuracy.md, from the ladder's log; empty where it has not run."""
    from mien.reproduction.ablations import make_page
    from mien.reproduction.page import read_results

    results = read_results(DOCS / "reproduction")
    return make_page(results["ladder"]) if "ladder" in results else ""


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def list_outdated() -> list[str]:
    """The generated pages that are not what their sources say."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "reproduction.md"
        write_reproduction(fresh)
        same = {
            "commands.md": make_commands_page() == (DOCS / "commands.md").read_text(encoding="utf-8"),
            "reproduction.md": fresh.read_text(encoding="utf-8")
            == (DOCS / "reproduction.md").read_text(encoding="utf-8"),
            "accuracy.md": not (page := make_accuracy_page()) or page == _text(DOCS / "accuracy.md"),
        }
    return [name for name, is_same in same.items() if not is_same]


if __name__ == "__main__":
    if "--check" in sys.argv:
        late = list_outdated()
        sys.exit(f"docs: {', '.join(late)} out of date: run make docs" if late else 0)
    (DOCS / "commands.md").write_text(make_commands_page(), encoding="utf-8", newline="\n")
    write_reproduction(DOCS / "reproduction.md")
    if page := make_accuracy_page():
        (DOCS / "accuracy.md").write_text(page, encoding="utf-8", newline="\n")
