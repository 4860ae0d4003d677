"""The `mien` program: its verbs, and the one place where errors become messages and exit codes.

0 all done · 1 some of several inputs failed · 2 nothing was done · 130 interrupted
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Annotated

import typer

from mien import __version__
from mien.cli import analyze, models, moments, networks, reports
from mien.cli import audit as audits
from mien.cli import data as datasets
from mien.cli import embed as embeddings
from mien.cli import ensemble as ensembles
from mien.cli import explain as explaining
from mien.cli import finish as finishing
from mien.cli import plot as plots
from mien.cli import queue as queues
from mien.cli import reproduce as reproduction
from mien.cli import serve as serving
from mien.cli import training as learning
from mien.cli.messages import format_error, print_error, print_help
from mien.cli.supervision import go_on_in_child, is_over
from mien.core.files import cache_folder
from mien.core.progress import echo

HELP = """Read facial expressions: train the networks, measure them, run them on pictures and videos.

An expression is not an inner state: mien says what a face shows, not what a person feels."""

#: What typer returns for Ctrl-C.
INTERRUPTED = 130

#: Verbs that keep what they had finished, and how they go on.
GOES_ON = dict.fromkeys(
    ("analyze", "reproduce", "queue", "audit"), ": what was finished is kept; the same command goes on from there"
) | {"train": ": what was finished is kept; the same command goes on from there with --resume"}

app = typer.Typer(
    name="mien",
    help=HELP,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("analyze")(analyze.analyze)
app.command("moments")(moments.moments)
app.command("plot")(plots.plot)
app.command("train")(learning.train)
app.command("evaluate")(learning.evaluate)
app.command("predict")(learning.predict)
app.command("export")(learning.export)
app.command("finish")(finishing.finish)
app.command("ensemble")(ensembles.ensemble)
app.command("average")(ensembles.average)
app.command("reproduce")(reproduction.reproduce)
app.command("queue")(queues.queue)
app.command("report")(reports.report)
app.command("compare")(reports.compare)
app.command("explain")(explaining.explain)
app.command("filters")(explaining.filters)
app.command("embed")(embeddings.embed)
app.command("audit")(audits.audit)
app.command("serve")(serving.serve)
app.add_typer(datasets.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(networks.app, name="networks")


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"mien {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the program itself; alone it says what it can do."""
    print_help(context)


@cache
def command() -> typer.core.TyperGroup:
    """The program as typer reads it from the functions of all verbs, which takes a quarter of a second."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code. With MIEN_DEBUG=1 errors show their traceback."""
    try:
        result = command()(list(arguments) if arguments is not None else None, prog_name="mien", standalone_mode=False)
    except typer.TyperException as error:
        place = getattr(getattr(error, "ctx", None), "command_path", "mien")
        message = error.format_message()
        given = sys.argv[1:] if arguments is None else arguments
        file = next((word for word in given if word.startswith("-") and os.path.isfile(word)), "")  # noqa: PTH113 - no error for what is too long
        hint = f"the file is given as ./{file}" if file else f"see '{place} --help'"
        print_error(f"{message[:1].lower()}{message[1:].rstrip('.')}; {hint}")
        return 2
    except Exception as error:  # noqa: BLE001 - the last place: no traceback reaches a person
        print_error(format_error(error))
        return 2
    if result == INTERRUPTED:
        verb = next(iter(sys.argv[1:] if arguments is None else arguments), "")
        print_error(f"interrupted{GOES_ON.get(verb, '')}")
    return result if isinstance(result, int) else 0


def run() -> None:
    """The console script."""
    warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script that matplotlib's font lacks
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    if sys.argv[1:2] == ["analyze"]:
        go_on_in_child()
    # matplotlib keeps a list of the system's fonts; with the program that is mien's, in the folder that is named for it.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    code = main()
    with suppress(OSError, ValueError):  # a pipe that was closed; Python says so itself
        sys.stdout.flush()
    is_over(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
