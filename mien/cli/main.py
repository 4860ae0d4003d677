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
from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from mien import __version__
from mien.cli.messages import format_error, print_error, print_help
from mien.cli.supervision import fork_worker, report_end
from mien.core.files import cache_folder
from mien.core.progress import echo

HELP = """Read facial expressions: train the networks, measure them, run them on pictures and videos.

An expression is not an inner state: mien says what a face shows, not what a person feels."""

#: Each verb: the function or the group of verbs that does it, and the first line of its help.
VERBS = {
    "analyze": ("analyze:analyze", "Find faces in pictures and videos and classify their expressions."),
    "moments": ("moments:moments", "Write the stills of a video at which an expression peaks."),
    "plot": ("plot:plot", "Plot the records of a video, or compare those of two."),
    "people": ("people:people", "List the people of a video; merge, split and name them."),
    "events": ("events:events", "Write segments and peaks for annotation and editing programs."),
    "agreement": ("agreement:agreement", "Measure how far records agree with human coding."),
    "groups": ("groups:groups", "Compare what is shown in groups of clips."),
    "methods": ("methods:methods", "Describe how records were made, for the methods section of a paper."),
    "train": ("training:train", "Train a network by a recipe."),
    "train-detector": ("train_detector:train_detector", "Train a face detector and write its ONNX file."),
    "evaluate": ("training:evaluate", "Score a model on labeled faces."),
    "predict": ("training:predict", "Write a model's probabilities for every face of a data set."),
    "export": ("training:export", "Export a trained network to one ONNX file."),
    "finish": ("finish:finish", "Calibrate a model, set its thresholds and quantize it to int8."),
    "ensemble": ("ensemble:ensemble", "Combine models into one file that averages their probabilities."),
    "average": ("ensemble:average", "Average the weights of runs of which each continues the one before."),
    "reproduce": ("reproduce:reproduce", "Run a reference system by its author's recipe and by ours."),
    "queue": ("queue:queue", "Train the reference systems and the shipped models, by priority."),
    "report": ("reports:report", "Write a page about a model: its faces, its confusions, all its scores."),
    "compare": ("reports:compare", "Compare two models on the same faces."),
    "explain": ("explain:explain", "Show which pixels of a face decide, and check whether the maps can be trusted."),
    "filters": ("filters:filters", "Show what the filters of a layer respond to."),
    "embed": ("embed:embed", "Lay out faces in two dimensions, by their pixels and by the network's features."),
    "audit": ("audit:audit", "Find duplicates, pictures that are not faces, and wrong labels."),
    "serve": ("serve:serve", "Serve the page for pictures, videos and the camera, and the HTTP API."),
    "data": ("data:app", "Make, describe, convert, split and preview data sets."),
    "models": ("models:app", "List, show and pull model files."),
    "networks": ("networks:app", "List and show the architectures that can be trained."),
}

#: What typer returns for Ctrl-C.
INTERRUPTED = 130

#: Verbs that keep what they finished, and how they are resumed.
RESUME_HINTS = dict.fromkeys(
    ("analyze", "reproduce", "queue", "audit"), ": finished work is kept; the same command continues it"
) | {"train": ": finished epochs are kept; the same command with --resume continues"}

SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class VerbGroup(TyperGroup):
    """The verbs by name and summary; the module of a verb is imported when it is called or completed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=summary) for name, (_, summary) in VERBS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the verb that the arguments name, loaded, and the arguments after it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name in VERBS else command, rest


@cache
def load_verb(name: str) -> TyperCommand | TyperGroup:
    """Import a verb of VERBS, with its options or its own verbs."""
    module, _, attribute = VERBS[name][0].partition(":")
    app = getattr(import_module(f"mien.cli.{module}"), attribute)
    if not isinstance(app, typer.Typer):
        function, app = app, typer.Typer(add_completion=False, **SETTINGS)
        app.command(name)(function)
    return cast(TyperCommand | TyperGroup, typer.main.get_command(app))


app = typer.Typer(name="mien", cls=VerbGroup, help=HELP, invoke_without_command=True, **SETTINGS)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        echo(f"mien {__version__}")
        raise typer.Exit


@app.callback()
def _print_help(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Print the help where no verb is named."""
    print_help(context)


@cache
def command() -> TyperGroup:
    """Build the program; its verbs are still to be loaded."""
    return cast(TyperGroup, typer.main.get_command(app))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return the exit code. With MIEN_DEBUG=1 errors show their traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = command()(words, prog_name="mien", standalone_mode=False)
    except typer.TyperException as error:
        place = getattr(getattr(error, "ctx", None), "command_path", "mien")
        message = error.format_message()
        file = next((word for word in words if word.startswith("-") and os.path.isfile(word)), "")  # noqa: PTH113 - no error for what is too long
        hint = f"the file is given as ./{file}" if file else f"see '{place} --help'"
        print_error(f"{message[:1].lower()}{message[1:].rstrip('.')}; {hint}")
        return 2
    except Exception as error:  # noqa: BLE001 - the last place: no traceback reaches a person
        print_error(format_error(error))
        return 2
    if result == INTERRUPTED:
        print_error(f"interrupted{RESUME_HINTS.get(next(iter(words), ''), '')}")
    return result if isinstance(result, int) else 0


def run() -> None:
    """Run the console script."""
    warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script that matplotlib's font lacks
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    if sys.argv[1:2] == ["analyze"]:
        fork_worker()
    # matplotlib keeps a list of the system's fonts; with the program that is mien's, in the folder that is named for it.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    code = main()
    with suppress(OSError, ValueError):  # a pipe that was closed; Python says so itself
        sys.stdout.flush()
    report_end(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
