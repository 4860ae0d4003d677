"""`mien reproduce`: the reference systems and the questions they left open, on their own splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.loaders import read_data, require_torch
from mien.cli.options import Data, Json, Quiet
from mien.core.errors import UsageError
from mien.core.locks import hold_lock
from mien.core.progress import echo
from mien.reproduction.page import read_results, write_page
from mien.reproduction.studies import studies_named


def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME|all", help="A system or question; a wrong name lists them.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the runs, their results and the page.")] = Path(
        "runs/reproduce"
    ),
    short: Annotated[
        bool, typer.Option("--short", help="Run the shortened schedules, made for two cores without a GPU.")
    ] = False,
    known: Annotated[
        Path | None,
        typer.Option(help="A folder of NAME.json files made before: their runs of the same recipe are not made again."),
    ] = None,
    run: Annotated[str, typer.Option(help="Train only this run of the study, such as author or ours.")] = "",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a reference system as its author did, and by our own recipe.

    The data is FER2013's Training and PublicTest; every system's split is drawn from them with a fixed seed, and scored
    on faces that neither trained nor chose anything. What is done is skipped, what was interrupted goes on. The folder gets
    the runs, a NAME.json with their logs and scores, and reproduction.md with all tables and curves.
    """
    require_torch()
    from mien.reproduction.runner import reproduce as run_study

    quiet, results = quiet or as_json, {}
    studies = studies_named(name)
    if known is not None and not known.is_dir():
        raise UsageError(f"--known {known}", "is no folder", "name the one that holds the NAME.json files")
    faces = read_data(data, quiet=quiet)
    for study in studies:
        options = {"short": short, "known": known, "only": run, "quiet": quiet}
        results[study.name] = run_study(study, faces, out, **options, echo=(lambda text: None) if quiet else echo)
        with hold_lock(out / ".page.lock", out, "wait until it has ended", wait_s=600):
            write_page(read_results(out), out / "reproduction.md", out / "pictures")
    if as_json:
        echo(json.dumps(results, indent=2))
    elif not quiet:
        echo(f"wrote {out / 'reproduction.md'}")
